"""SimpleNet (Liu et al., CVPR 2023), for training and as the reference of every export.

In: frames uint8 `(B, H, W, 3)` BGR of the model's size. Out: scores `(B,)` and maps `(B, H, W)`, float32, larger = more
anomalous. On disk: a folder with `model.json` and `model.safetensors`, backbone included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.files import write_bytes, write_json
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.head_quantizer import HeadQuantizer
from simplenet_edge.model.memory import PatchMemory
from simplenet_edge.model.networks import Discriminator, Projection
from simplenet_edge.model.patches import (
    AnomalyMap,
    PatchMaker,
    align_patches,
    grid_resize,
    image_scores,
    layer_share,
    pool_patches,
)
from simplenet_edge.model.quantization import int8_structure, is_int8
from simplenet_edge.spec import Frames, InputSpec, Prediction, SimpleNetConfig, from_dict, to_dict

__all__ = ["SimpleNet", "Standardizer"]

CONFIG_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"


class Standardizer(nn.Module):
    """Per-channel standardisation of embedding rows `(N, D)`; the identity until training sets its statistics.

    Not in the paper. It puts the noise of training in units of the features' own spread, so that one noise scale suits
    any backbone; it is linear and costs nothing once folded.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, embedding: Tensor) -> Tensor:
        """`(embedding - mean) / std`, shape kept."""
        return (embedding - self.mean) / self.std


class SimpleNet(nn.Module):
    """The whole model: normalise, backbone, patches, embedding, standardise, project, discriminate, remember, map.

    On a backbone in INT8 its head is in INT8 as well: `head_quantizer` rounds what it reads, `model.int8` its weights.
    `train()` and `eval()` are PyTorch's own; the training loop is `simplenet_edge.training.trainer.train`.
    """

    def __init__(self, config: SimpleNetConfig, input_spec: InputSpec, backbone: Backbone) -> None:
        super().__init__()
        if (backbone.name, backbone.layers) != (config.backbone, config.layers):
            raise ConfigError(f"the backbone {backbone.name} {backbone.layers} is not the one of the configuration")
        self.config = config
        self.input_spec = input_spec
        self.backbone = backbone
        self.patch_maker = PatchMaker(config.patch_size, config.patch_stride)
        self.standardizer = Standardizer(config.target_embed_dim)
        dim, int8 = config.target_embed_dim, is_int8(backbone.body)
        self.head_quantizer = HeadQuantizer(len(config.layers), dim) if int8 else None
        self.pre_projection: nn.Module = nn.Identity()
        if config.projection_layers > 0:
            self.pre_projection = Projection(
                dim,
                n_layers=config.projection_layers,
                layer_type=config.projection_type,
                batch_norm=config.projection_batch_norm,
            )
        self.discriminator = Discriminator(
            dim, config.discriminator_layers, config.discriminator_hidden, tail_bias=config.discriminator_bias
        )
        self.grids = self._patch_grids()
        self.grid_hw = self.grids[0].hw
        self.resizes = nn.ModuleList(grid_resize(grid, self.grids[0]) for grid in self.grids)
        self.anomaly_map = AnomalyMap(self.grids[0], input_spec.size_hw, config.smoothing_sigma)
        self.memory: PatchMemory | None = None
        if config.memory_size > 0:
            sizes = dim, config.memory_size, config.memory_dim, config.memory_stride
            self.memory = PatchMemory(*sizes, self.grids[0], int8=int8)
        self.register_buffer("pixel_mean", torch.tensor(input_spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(input_spec.std).view(1, 3, 1, 1), persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    def _patch_grids(self) -> list[Grid]:
        """Where the patches of each layer lie in the model frame, by the configuration's `alignment`.

        Receptive fields must be known of all layers: layers that are placed differently don't fit together.
        """
        size_hw, stride = self.input_spec.size_hw, self.config.patch_stride
        shapes = [shape[1:] for shape in self.backbone.feature_shapes(size_hw)]
        fields = [self.backbone.fields[layer] for layer in self.config.layers]
        grids = [self.patch_maker.grid_hw(shape) for shape in shapes]
        if self.config.alignment == "receptive-field" and all(
            cells.fit(shape, size_hw) for cells, shape in zip(fields, shapes, strict=True)
        ):
            return [Grid(hw, cells.every(stride), cells.every(stride)) for hw, cells in zip(grids, fields, strict=True)]
        return [Grid.spread_evenly(hw, size_hw) for hw in grids]

    def normalize(self, frames: Tensor) -> Tensor:
        """Frames uint8 `(B, H, W, 3)` BGR as images float32 `(B, 3, H, W)` RGB, normalised."""
        images = frames.flip(-1).permute(0, 3, 1, 2).float() / 255
        return (images - self.pixel_mean) / self.pixel_std

    def embed(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` as embedding rows `(B*h*w, target_embed_dim)` on the first layer's patch grid.

        Paper, section 3.1; the official `_embed`.
        """
        features = self.backbone(images)
        if self.head_quantizer is not None:
            shares = self.layer_shares(self.head_quantizer.rounded_features(features))
            maps = torch.stack([resize(self.head_quantizer(shares[i], i)) for i, resize in enumerate(self.resizes)])
            return maps.sum(dim=0).flatten(2).transpose(1, 2).flatten(0, 1)
        patches = [
            align_patches(self.patch_maker.patchify(feature), grid.hw, resize)
            for feature, grid, resize in zip(features, self.grids, self.resizes, strict=True)
        ]
        return pool_patches(patches, self.config.pretrain_embed_dim, self.config.target_embed_dim)

    def layer_shares(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What each layer adds to the embedding, on its own patch grid: `(B, target_embed_dim, h_l, w_l)`."""
        dims = len(self.grids), self.config.pretrain_embed_dim, self.config.target_embed_dim
        return [
            layer_share(self.patch_maker.patchify(feature), i, *dims).reshape(len(feature), -1, *grid.hw)
            for i, (feature, grid) in enumerate(zip(features, self.grids, strict=True))
        ]

    def project(self, embedding: Tensor) -> Tensor:
        """Embedding rows `(N, D)` as adapted features `(N, D)`: standardised, then projected."""
        projected: Tensor = self.pre_projection(self.standardizer(embedding))
        return projected

    def score_patches(self, embedding: Tensor) -> Tensor:
        """Embedding rows `(N, D)` as anomaly scores `(N,)`: the negative output of the discriminator.

        With a memory its distances are added, and the rows must be those of whole images, `(B*h*w, D)`.
        """
        normality: Tensor = self.discriminator(self.project(embedding))
        scores = -normality[:, 0]
        return scores if self.memory is None else self.memory(self.standardizer(embedding), scores)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames uint8 `(B, H, W, 3)` BGR as scores `(B,)` and maps `(B, H, W)`.

        The score is the mean of the `score_top_k` largest patch scores, before upsampling and smoothing; 1 is what the
        official code does.
        """
        return self.judge(self.embed(self.normalize(frames)))

    def judge(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding rows of whole images `(B*h*w, D)` as scores `(B,)` and maps `(B, H, W)`."""
        patch_scores = self.score_patches(embedding)
        grid = self.patch_maker.unpatch_scores(patch_scores, self.grid_hw)
        return image_scores(grid, self.config.score_top_k), self.anomaly_map(grid)

    @torch.inference_mode()
    def predict(self, frames: Frames) -> Prediction:
        """`forward` on NumPy frames, in evaluation mode whatever mode the model is in."""
        was_training = self.training
        self.eval()
        try:
            score, maps = self(torch.from_numpy(np.ascontiguousarray(frames)).to(self.pixel_mean.device))
        finally:
            self.train(was_training)
        return Prediction(score.cpu().numpy(), maps.cpu().numpy())

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`, each whole or not at all."""
        values = {"model": to_dict(self.config), "input": to_dict(self.input_spec)}
        state = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        write_bytes(folder / WEIGHTS_NAME, safetensors.torch.save(state))
        write_json(folder / CONFIG_NAME, values)

    @classmethod
    def load(cls, folder: Path) -> SimpleNet:
        """The model that `save` wrote, in evaluation mode. Raises WeightsError where it is missing or damaged."""
        try:
            values = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
            config = from_dict(SimpleNetConfig, values["model"])
            input_spec = from_dict(InputSpec, values["input"])
            state = safetensors.torch.load_file(folder / WEIGHTS_NAME)
        except FileNotFoundError as error:
            raise WeightsError(
                f"{folder}: no {Path(error.filename or WEIGHTS_NAME).name}; is it a training run?"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError, SafetensorError) as error:
            raise WeightsError(f"{folder}: the trained model is damaged ({error}); train again") from error
        backbone = Backbone(config.backbone, config.layers)
        backbone.weights_source = f"{WEIGHTS_NAME} of a run"
        if any(".quantizer_" in key for key in state):
            backbone.body = int8_structure(backbone.body)
        model = cls(config, input_spec, backbone)
        if model.memory is not None:
            model.memory.make_room(state)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"{folder}: the weights do not fit model.json ({error}); train again") from error
        return model.eval()
