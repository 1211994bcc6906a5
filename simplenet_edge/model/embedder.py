"""The rows of `SimpleNet.embed` in less time: for images by the thousand, where rounding doesn't matter.

Batch norms are folded into convolutions, and cutting patches and both poolings are one convolution per layer, which is
resized after it has fewer channels. Many frames go through ONNX Runtime where that is installed and pays.
In: frames uint8 `(B, H, W, 3)` BGR, or images float32 `(B, 3, H, W)` RGB, normalised. Out: rows `(B*h*w, D)`.
"""

from __future__ import annotations

import copy
import functools
import logging
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simplenet_edge.contract import one_line
from simplenet_edge.engines.onnxruntime import cpu_session
from simplenet_edge.errors import ParityError
from simplenet_edge.model.batch_norms import fold_batch_norms
from simplenet_edge.model.onnx_graph import onnx_graph
from simplenet_edge.model.patches import embedding_matrices
from simplenet_edge.model.quantization import is_int8
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Embedder", "FastPredictor", "FrameEmbedder"]

_log = logging.getLogger(__name__)

EXPORT_PIXELS = 12_000_000
"""Pixels of frames per thread from which ONNX Runtime pays: exporting takes one core as long as these save it.

Measured at 256x256 on one core: 2.6 s, and 0.2 us per pixel of networks with depthwise convolutions (EfficientNet-Lite0
0.29, MobileNetV2 0.21). Dense ones gain a tenth (ResNet-18) or nothing (WideResNet50-2).
"""
_INPUT = "frames"
_EXPORTER = ("onnx", "onnxruntime", "onnxscript")
_TOLERANCE = 1e-4
"""Of the rows' range: how far ONNX Runtime may be from PyTorch."""


class Embedder(nn.Module):
    """The frozen part of a model, from normalised images to embedding rows; the model stays as it is."""

    def __init__(self, model: SimpleNet) -> None:
        super().__init__()
        config, self.layers, self.grid_hw = model.config, model.backbone.layers, model.grid_hw
        self.dim = config.target_embed_dim
        self.backbone = fold_batch_norms(model.backbone.body)
        self.resizes, self.quantizer = copy.deepcopy(model.resizes), model.head_quantizer
        channels = [shape[0] for shape in model.backbone.feature_shapes(model.input_spec.size_hw)]
        self.pools, self.channels = nn.ModuleList(), []
        for matrix, into in zip(embedding_matrices(config, channels), channels, strict=True):
            rows = matrix.ne(0).any(dim=1).nonzero()
            share = slice(int(rows.min()), int(rows.max()) + 1)
            size, padding = config.patch_size, model.patch_maker.padding
            pool = nn.Conv2d(into, share.stop - share.start, size, config.patch_stride, padding, bias=False)
            pool.weight.data = matrix[share].reshape(-1, into, size, size).float()
            self.pools.append(pool)
            self.channels.append(share)
        self.requires_grad_(False).eval()
        self.to(model.pixel_mean.device).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` as rows `(B*h*w, D)`."""
        found = self.backbone(images.contiguous(memory_format=torch.channels_last))
        features = [found[layer] for layer in self.layers]
        if self.quantizer is not None:
            features = self.quantizer.rounded_features(features)
        shares = []
        parts = zip(features, self.pools, self.resizes, self.channels, strict=True)
        for i, (feature, pool, resize, channels) in enumerate(parts):
            share = pool(feature)
            if self.quantizer is not None:
                share = self.quantizer(share, i, channels)
            around = (0, 0, 0, 0, channels.start, self.dim - channels.stop)
            shares.append(F.pad(resize(share).to(images.dtype), around))
        return functools.reduce(torch.add, shares).permute(0, 2, 3, 1).reshape(-1, self.dim)


class _FrameRows(nn.Module):
    """The rows of frames, as the graph computes them."""

    def __init__(self, model: SimpleNet, embedder: Embedder) -> None:
        super().__init__()
        self.normalize, self.embedder = model.normalize, embedder

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 `(B, H, W, 3)` BGR as rows `(B*h*w, D)`."""
        rows: Tensor = self.embedder(self.normalize(frames))
        return rows


class FrameEmbedder:
    """The rows of a model's frames, about `n_frames` of them: in ONNX Runtime where it pays, otherwise in PyTorch.

    It pays on a CPU from `EXPORT_PIXELS` on, for networks with depthwise convolutions. INT8 stays in PyTorch, which
    rounds as the head has learned. ONNX Runtime computes frame by frame, so that a frame has the same rows in any
    batch, and is compared with PyTorch on one of noise. Where it fails, PyTorch goes on, and a warning is logged.
    """

    def __init__(self, model: SimpleNet, n_frames: int = 0) -> None:
        self.device = model.pixel_mean.device
        self._rows = _FrameRows(model, Embedder(model)).eval()
        self._session: Any = None
        if _pays(model, n_frames):
            try:
                example = torch.zeros(1, *model.input_spec.size_hw, 3, dtype=torch.uint8)
                graph = onnx_graph(self._rows, example, _INPUT, ["rows"], free_batch=False)
                self._session = cpu_session(graph.SerializeToString(), torch.get_num_threads())
                self._prove(model.input_spec.size_hw)
            except Exception as error:  # the exporter's and ONNX Runtime's share no other class
                self._fall_back(error)

    @property
    def engine(self) -> str:
        """What computes: `onnxruntime` or `pytorch`."""
        return "pytorch" if self._session is None else "onnxruntime"

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> Tensor:
        """Frames uint8 `(B, H, W, 3)` BGR as rows `(B*h*w, D)` on the model's device."""
        if self._session is not None:
            try:
                return torch.cat([self._run(frame[np.newaxis]) for frame in frames])
            except Exception as error:
                self._fall_back(error)
        rows: Tensor = self._rows(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))
        return rows

    def _run(self, frame: Frames) -> Tensor:
        """The rows `(h*w, D)` of one frame `(1, H, W, 3)` in ONNX Runtime."""
        return torch.from_numpy(self._session.run(None, {_INPUT: frame})[0])

    @torch.inference_mode()
    def _prove(self, size_hw: tuple[int, int]) -> None:
        """Raise ParityError where ONNX Runtime gives other rows than PyTorch."""
        frame = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
        expected, found = self._rows(torch.from_numpy(frame)), self._run(frame)
        apart, room = float((found - expected).abs().max()), _TOLERANCE * float(expected.max() - expected.min())
        if torch.isfinite(expected).all() and not apart <= room:
            raise ParityError(f"its rows differ from PyTorch's by {apart:.1e}, expected at most {room:.1e}")

    def _fall_back(self, error: Exception) -> None:
        self._session = None
        _log.warning("features are computed in PyTorch, more slowly: ONNX Runtime failed (%s)", one_line(error))


def _pays(model: SimpleNet, n_frames: int) -> bool:
    """Whether exporting takes less time than ONNX Runtime saves, by the pixels alone: each run decides alike."""
    height, width = model.input_spec.size_hw
    convolutions = [module for module in model.backbone.body.modules() if isinstance(module, nn.Conv2d)]
    return (
        model.pixel_mean.device.type == "cpu"
        and not is_int8(model.backbone.body)
        and any(module.groups > 1 for module in convolutions)
        and n_frames * height * width >= EXPORT_PIXELS * torch.get_num_threads()
        and all(find_spec(package) is not None for package in _EXPORTER)
    )


class FastPredictor:
    """A trained model as a predictor that embeds in less time: to calibrate and evaluate, not to prove parity.

    `embedder` is one of the same backbone and input, where there is one already.
    """

    def __init__(self, model: SimpleNet, embedder: FrameEmbedder | None = None) -> None:
        self._model, self._embedder = model.eval(), embedder or FrameEmbedder(model)

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Prediction:
        """Scores `(B,)` and maps `(B, H, W)` of frames uint8 `(B, H, W, 3)` BGR."""
        score, maps = self._model.judge(self._embedder(frames))
        return Prediction(score.cpu().numpy(), maps.cpu().numpy())
