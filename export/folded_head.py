"""The folded head as a module, in any of its exactly equal forms.

In: one feature map `(B, C_l, h_l, w_l)` a layer. Out: patch anomaly scores `(B, h, w)` on the first layer's patch grid.
What a layer does, with `P_l` and `M` of `simplenet_edge.export.fold`:

    full     one convolution k x k with M P_l, resized and added up
    pooled   convolution k x k with the rows of P_l that are not zero (grouped where they split), a 1x1 convolution with
             their columns of M on the layer's own grid, resized and added up
    embed    the same rows, resized and joined over the layers, then one 1x1 convolution with M for all of them

Where the model has a memory, its distances are added behind the last layer. An INT8 model's head is `pooled`: both
convolutions of a layer and the memory's product read rounded values and weights that are integers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from simplenet_edge.contract import FAR
from simplenet_edge.export.fold import Affine, first_affine, group_count, head_stages
from simplenet_edge.export.int8_constants import Int8Constant, Int8Conv2d, exact_scales
from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.head_quantizer import HeadQuantizer
from simplenet_edge.model.memory import PatchMemory
from simplenet_edge.model.patches import embedding_matrices, grid_resize
from simplenet_edge.model.quantization import Quantizer, weight_scales
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["FoldedHead", "LayerForm"]

LayerForm = Literal["full", "pooled", "embed"]

_LESSON_PATCHES = 256
"""Patches that a graph has room to be taught."""


class FoldedMemory(nn.Module):
    """Coordinates in the memory `(B, d, h, w)` and scores `(B, h, w)` -> scores with scaled distances, on one grid.

    `|c - p|^2 = |c|^2 - 2 c p + |p|^2`: one matrix product, laid out so that each patch's minimum is over neighbours in
    storage. ONNX Runtime takes twice as long over a 1x1 convolution and its minimum over channels.

    A patch near one that the graph was taught (`simplenet_edge.runtime.teach`) is near the memory, and scores no more
    than it is farther from that one than the floor, whatever the discriminator says. Until then there is none near.
    """

    def __init__(self, memory: PatchMemory, grid: Grid, dtype: torch.dtype) -> None:
        super().__init__()
        patches = (memory.distance_scale.double() * memory.patches.double()).cpu()
        self.quantizer: Quantizer | None = None
        if memory.quantizer is None:
            self.register_buffer("products", (-2 * patches.T).to(dtype).contiguous())
        else:
            step = (memory.distance_scale.double() * memory.quantizer.scale.double()).cpu()
            self.quantizer = _quantizer(step)
            self.int8_products = Int8Constant(-2 * patches.T, 2 * step)
        self.register_buffer("squares", patches.square().sum(dim=1).to(dtype))
        self.register_buffer("lesson_products", torch.zeros(patches.shape[1], _LESSON_PATCHES, dtype=dtype))
        self.register_buffer("lesson_squares", torch.full((_LESSON_PATCHES,), FAR**2, dtype=dtype))
        floor = memory.distance_scale.double() * memory.floor.double()
        self.register_buffer("floor", floor.to(dtype).cpu())
        self.products: Tensor
        self.squares: Tensor
        self.lesson_products: Tensor
        self.lesson_squares: Tensor
        self.floor: Tensor
        self.least = float(floor) ** 2
        self.stride = memory.stride
        self.grid_hw = memory.grid.hw
        self.resize = grid_resize(memory.grid, grid, dtype)

    def forward(self, coordinates: Tensor, scores: Tensor) -> Tensor:
        """The score of each patch."""
        coarse = coordinates[:, :, :: self.stride, :: self.stride]
        products = self.products if self.quantizer is None else self.int8_products()
        if self.quantizer is not None:
            coarse = self.quantizer(coarse)
        rows = coarse.flatten(2).transpose(1, 2)
        taught = (rows @ self.lesson_products + self.lesson_squares).amin(dim=2)
        nearest = torch.minimum((rows @ products + self.squares).amin(dim=2), taught)
        both = torch.stack([nearest, taught], dim=1) + (rows * rows).sum(dim=2).unsqueeze(1)
        distances = self.resize(both.clamp(min=self.least).sqrt().reshape(-1, 2, *self.grid_hw))
        return torch.minimum(scores + distances[:, 0], distances[:, 1] - self.floor)


class FoldedHead(nn.Module):
    """The head of a trained `SimpleNet`, folded in float64 and stored in `dtype`.

    `forms` names the form of each layer; `embed` is for all layers or for none. Which is cheapest is
    `simplenet_edge.export.cost`'s to say.
    """

    def __init__(self, model: SimpleNet, forms: Sequence[LayerForm], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        shapes = model.backbone.feature_shapes(model.input_spec.size_hw)
        matrices = embedding_matrices(model.config, [shape[0] for shape in shapes])
        first, *rest = head_stages(model)
        into = first_affine(model)
        self.joined = "embed" in forms
        assert not self.joined or set(forms) == {"embed"}, forms
        self.layers_of: dict[Grid, list[int]] = {}
        for i, grid in enumerate(model.grids):
            self.layers_of.setdefault(grid, []).append(i)
        branches: list[nn.Sequential] = []
        kept_columns, quantizer = [], model.head_quantizer
        for matrix, (channels, *_), form in zip(matrices, shapes, forms, strict=True):
            kept = matrix.ne(0).any(dim=1)
            kept_columns.append(into.weight[:, kept])
            rows = into.weight @ matrix if form == "full" else matrix[kept]
            mix = kept_columns[-1] if form == "pooled" else None
            branches.append(_branch(model, channels, rows, mix, dtype if quantizer is None else torch.float64))
            if quantizer is not None:
                assert form == "pooled", form
                branches[-1] = _int8_branch(branches[-1], quantizer, len(branches) - 1, kept, into.weight)
        self.branches = nn.ModuleList(branches)
        self.resizes = nn.ModuleList(grid_resize(grid, model.grids[0], dtype) for grid in self.layers_of)
        kept_columns = [kept_columns[i] for layers in self.layers_of.values() for i in layers]
        self.mix = _pointwise(Affine(torch.cat(kept_columns, dim=1), into.bias), dtype) if self.joined else None
        bias = into.bias if quantizer is None else into.bias + into.weight @ quantizer.middles.double().cpu().sum(dim=0)
        self.register_buffer("bias", bias.to(dtype).view(1, -1, 1, 1))
        self.bias: Tensor
        tail: list[nn.Module] = []
        for slope, stage in zip((first.slope, *(stage.slope for stage in rest)), rest, strict=False):
            assert slope is not None
            tail += [nn.LeakyReLU(slope), _pointwise(stage.affine, dtype)]
        self.tail = nn.Sequential(*tail)
        self.hidden = len(first.affine.bias)
        self.memory: FoldedMemory | None = None
        if model.memory is not None:
            self.memory = FoldedMemory(model.memory, model.grids[0], dtype)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Patch anomaly scores `(B, h, w)`."""
        parts = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        by_grid = [[parts[i] for i in layers] for layers in self.layers_of.values()]
        if self.mix is not None:
            joined = [torch.cat(same, dim=1) if len(same) > 1 else same[0] for same in by_grid]
            hidden = self.mix(torch.cat([resize(x) for x, resize in zip(joined, self.resizes, strict=True)], dim=1))
        else:
            added = [resize(sum(same[1:], start=same[0])) for same, resize in zip(by_grid, self.resizes, strict=True)]
            hidden = sum(added[1:], start=added[0]) + self.bias
        scores: Tensor = self.tail(hidden[:, : self.hidden])[:, 0]
        if self.memory is not None:
            scores = self.memory(hidden[:, self.hidden :], scores)
        return scores


def _branch(model: SimpleNet, channels: int, rows: Tensor, mix: Tensor | None, dtype: torch.dtype) -> nn.Sequential:
    maker = model.patch_maker
    groups = group_count(rows, channels)
    conv = nn.Conv2d(
        channels,
        len(rows),
        maker.patch_size,
        stride=maker.stride,
        padding=maker.padding,
        groups=groups,
        bias=False,
        dtype=dtype,
    )
    conv.weight.data = grouped_weight(rows, channels, groups).reshape(conv.weight.shape).to(dtype)
    branch = nn.Sequential(conv)
    if mix is not None:
        branch.append(_pointwise(Affine(mix, torch.empty(0)), dtype))
    return branch


def _int8_branch(
    branch: nn.Sequential, quantizer: HeadQuantizer, layer: int, kept: Tensor, weight: Tensor
) -> nn.Sequential:
    """The two convolutions of a branch in INT8, each behind the rounding of what it reads.

    The first gives the `kept` channels in steps of their own, from their middles. `weight` is that of all layers
    together, which has one scale a channel.
    """
    steps, middles = (values[..., kept].double().cpu() for values in (quantizer.steps, quantizer.middles[layer]))
    pool, mix = branch
    assert isinstance(pool, nn.Conv2d)
    assert isinstance(mix, nn.Conv2d)
    pool.weight.data /= steps.view(-1, 1, 1, 1)
    mix.weight.data *= steps.view(1, -1, 1, 1)
    return nn.Sequential(
        copy.deepcopy(quantizer.features[layer]),
        Int8Conv2d(pool, exact_scales(pool.weight.detach()), -middles / steps),
        _quantizer(torch.ones(())),
        Int8Conv2d(mix, weight_scales(weight * quantizer.steps.double().cpu())),
    )


def _quantizer(scale: Tensor) -> Quantizer:
    quantizer = Quantizer()
    quantizer.scale.copy_(scale)
    return quantizer


def grouped_weight(rows: Tensor, channels: int, groups: int) -> Tensor:
    """Block-diagonal rows `(R, C * k * k)` as the weight of a grouped convolution `(R, C / g, k * k)`."""
    per_group = channels // groups
    blocks = rows.reshape(groups, len(rows) // groups, groups, per_group, -1)
    return torch.stack([blocks[i, :, i] for i in range(groups)]).flatten(0, 1)


def _pointwise(affine: Affine, dtype: torch.dtype) -> nn.Conv2d:
    """An affine map of the channels as a 1x1 convolution; no bias where the affine map carries none."""
    out, into = affine.weight.shape
    conv = nn.Conv2d(into, out, 1, bias=len(affine.bias) > 0, dtype=dtype)
    conv.weight.data = affine.weight[:, :, None, None].to(dtype)
    if conv.bias is not None:
        conv.bias.data = affine.bias.to(dtype)
    return conv
