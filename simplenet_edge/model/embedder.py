"""The rows of `SimpleNet.embed` in half the time: for images by the thousand, where rounding doesn't matter.

Batch norms are folded into convolutions, and cutting patches and both poolings are one convolution per layer, which is
resized after it has fewer channels. In: images float32 `(B, 3, H, W)` RGB, normalised. Out: rows `(B*h*w, D)`.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from simplenet_edge.model.batch_norms import fold_batch_norms
from simplenet_edge.model.patches import embedding_matrices
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Embedder", "FastPredictor"]


class Embedder(nn.Module):
    """The frozen part of a model, from normalised images to embedding rows; the model stays as it is."""

    def __init__(self, model: SimpleNet) -> None:
        super().__init__()
        config, self.layers, self.grid_hw = model.config, model.backbone.layers, model.grid_hw
        self.dim = config.target_embed_dim
        self.backbone = fold_batch_norms(model.backbone.body)
        self.resizes, self.quantizer = copy.deepcopy(model.resizes), model.head_quantizer
        channels = [shape[0] for shape in model.backbone.feature_shapes(model.input_spec.size_hw)]
        self.pools, self.rows = nn.ModuleList(), []
        for matrix, into in zip(embedding_matrices(config, channels), channels, strict=True):
            rows = matrix.ne(0).any(dim=1)
            size, padding = config.patch_size, model.patch_maker.padding
            pool = nn.Conv2d(into, int(rows.sum()), size, config.patch_stride, padding, bias=False)
            pool.weight.data = matrix[rows].reshape(-1, into, size, size).float()
            self.pools.append(pool)
            self.rows.append(torch.arange(self.dim)[rows])
        self.requires_grad_(False).eval()
        self.to(model.pixel_mean.device).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` as rows `(B*h*w, D)`."""
        found = self.backbone(images.contiguous(memory_format=torch.channels_last))
        features = [found[layer] for layer in self.layers]
        if self.quantizer is not None:
            features = self.quantizer.rounded_features(features)
        whole = images.new_zeros(len(images), self.dim, *self.grid_hw)
        parts = zip(features, self.pools, self.resizes, self.rows, strict=True)
        for i, (feature, pool, resize, rows) in enumerate(parts):
            share = pool(feature)
            if self.quantizer is not None:
                share = self.quantizer(share, i, rows)
            whole[:, rows] += resize(share).to(whole.dtype)
        return whole.permute(0, 2, 3, 1).reshape(-1, self.dim)


class FastPredictor:
    """A trained model as a predictor that embeds with an `Embedder`: to calibrate and evaluate, not to prove parity."""

    def __init__(self, model: SimpleNet) -> None:
        self._model, self._embedder = model.eval(), Embedder(model)

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Prediction:
        """Scores `(B,)` and maps `(B, H, W)` of frames uint8 `(B, H, W, 3)` BGR."""
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self._model.pixel_mean.device)
        score, maps = self._model.judge(self._embedder(self._model.normalize(images)))
        return Prediction(score.cpu().numpy(), maps.cpu().numpy())
