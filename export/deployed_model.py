"""The module that is deployed: the whole path from camera bytes to verdict numbers, written for the graph.

In: `frames` uint8 `(B, H, W, 3)` BGR. Out: `score` float32 `(B,)`, `map` float32 `(B, H, W)`; larger = more anomalous.
It computes what `SimpleNet` computes, with every constant folded; the trained model is left as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.utils.fusion import fuse_conv_bn_eval

from simplenet_edge.export.folded_head import FoldedHead, LayerForm
from simplenet_edge.model.patches import image_scores
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["DeployedSimpleNet", "fold_batch_norms"]


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


def fold_batch_norms(module: GraphModule) -> GraphModule:
    """A copy with each evaluation-mode batch norm that follows a convolution folded into it, computed in float64."""
    folded = copy.deepcopy(module).double().eval()
    modules = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or not isinstance(modules[before.target], nn.Conv2d) or len(before.users) != 1:
            continue
        fused = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        parent, _, name = before.target.rpartition(".")
        setattr(folded.get_submodule(parent), name, fused)
        node.replace_all_uses_with(before)
        folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.float()
