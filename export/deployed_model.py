"""The module that is deployed: the whole path from camera bytes to verdict numbers, written for the graph.

In: `frames` uint8 `(B, H, W, 3)` BGR. Out: `score` float32 `(B,)`, `map` float32 `(B, H, W)`; larger = more anomalous.
It computes what `SimpleNet` computes, with every constant folded; the trained model is left as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from simplenet_edge.export.folded_head import FoldedHead, LayerForm
from simplenet_edge.model.batch_norms import fold_batch_norms
from simplenet_edge.model.patches import image_scores
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["DeployedSimpleNet"]


class DeployedSimpleNet(nn.Module):
    """Normalise, backbone with its batch norms folded, folded head, score and map: no branch, no shape arithmetic."""

    def __init__(self, model: SimpleNet, forms: Sequence[LayerForm]) -> None:
        super().__init__()
        # (x / 255 - mean) / std, in one multiply and one add; it can't move into the zero-padded first convolution
        scale = 1 / (255 * model.pixel_std.double())
        self.register_buffer("pixel_scale", scale.float())
        self.register_buffer("pixel_shift", (-model.pixel_mean.double() / model.pixel_std.double()).float())
        self.register_buffer("bgr_to_rgb", torch.tensor([2, 1, 0]))
        self.pixel_scale: Tensor
        self.pixel_shift: Tensor
        self.bgr_to_rgb: Tensor
        self.layers = model.backbone.layers
        self.backbone = fold_batch_norms(model.backbone.body)
        self.head = FoldedHead(model, forms)
        self.score_top_k = model.config.score_top_k
        self.anomaly_map = copy.deepcopy(model.anomaly_map)
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`score` and `map` of `frames`."""
        # the cast comes first: TensorRT takes uint8 as an input, not as something to compute with
        images = frames.float().permute(0, 3, 1, 2).index_select(1, self.bgr_to_rgb)
        features = self.backbone(images * self.pixel_scale + self.pixel_shift)
        grid = self.head([features[layer] for layer in self.layers])
        return image_scores(grid, self.score_top_k), self.anomaly_map(grid)
