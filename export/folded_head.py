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
from simplenet_edge.export.fold import Affine, group_count, head_stages, memory_coordinates
from simplenet_edge.export.int8_constants import Int8Constant, Int8Conv2d, exact_scales
from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.memory import PatchMemory
from simplenet_edge.model.patches import embedding_matrices, grid_resize
from simplenet_edge.model.quantization import Quantizer, weight_scales
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["FoldedHead", "LayerForm"]

LayerForm = Literal["full", "pooled", "embed"]

_LESSON_PATCHES = 256
"""Patches that a graph has room to be taught."""


class FoldedMemory(nn.Module):
    """Coordinates on the memory's grid `(B, d, h', w')` and scores `(B, h, w)` -> scores with scaled distances.

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
        self.grid_hw = memory.grid.hw
        self.resize = grid_resize(memory.grid, grid, dtype)

    def forward(self, coordinates: Tensor, scores: Tensor) -> Tensor:
        """The score of each patch."""
        products = self.products if self.quantizer is None else self.int8_products()
        if self.quantizer is not None:
            coordinates = self.quantizer(coordinates)
        rows = coordinates.flatten(2).transpose(1, 2)
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
        joined = "embed" in forms
        assert not joined or set(forms) == {"embed"}, forms
        self.pools = nn.ModuleList(
            _pool(model, layer, matrix, shape[0], dtype) if form != "full" else nn.Identity()
            for layer, (matrix, shape, form) in enumerate(zip(matrices, shapes, forms, strict=True))
        )
        make = _Joined if joined else _Added
        self.first = make(model, first.affine, matrices, forms, model.grids[0], dtype)
        tail: list[nn.Module] = []
        for slope, stage in zip((first.slope, *(stage.slope for stage in rest)), rest, strict=False):
            assert slope is not None
            tail += [nn.LeakyReLU(slope), _pointwise(stage.affine, dtype)]
        self.tail = nn.Sequential(*tail)
        self.coordinates: nn.Module | None = None
        self.memory: FoldedMemory | None = None
        if model.memory is not None:
            self.coordinates = make(model, memory_coordinates(model), matrices, forms, model.memory.grid, dtype)
            self.memory = FoldedMemory(model.memory, model.grids[0], dtype)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Patch anomaly scores `(B, h, w)`."""
        parts = [pool(feature) for pool, feature in zip(self.pools, features, strict=True)]
        scores: Tensor = self.tail(self.first(parts))[:, 0]
        if self.coordinates is not None and self.memory is not None:
            scores = self.memory(self.coordinates(parts), scores)
        return scores


class _Added(nn.Module):
    """An affine map of the embedding on `grid`: each layer's share of it on its own grid, resized and added up.

    A grid that keeps every s-th patch of the first layer's costs that layer only those.
    """

    def __init__(
        self,
        model: SimpleNet,
        into: Affine,
        matrices: Sequence[Tensor],
        forms: Sequence[LayerForm],
        grid: Grid,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        stride = 1 if grid == model.grids[0] else model.config.memory_stride
        quantizer = model.head_quantizer
        shares: list[nn.Module] = []
        self.layers_of: dict[Grid, list[int]] = {}
        for layer, (matrix, own, form) in enumerate(zip(matrices, model.grids, forms, strict=True)):
            kept = matrix.ne(0).any(dim=1)
            bias = into.bias if layer == 0 else torch.empty(0)
            every = stride if own == model.grids[0] else 1
            self.layers_of.setdefault(grid if own == model.grids[0] else own, []).append(layer)
            if quantizer is not None:
                if layer == 0:
                    bias = bias + into.weight @ quantizer.middles.double().cpu().sum(dim=0)
                steps = quantizer.steps.double().cpu()
                share = _pointwise(Affine(into.weight[:, kept] * steps[kept], bias), torch.float64, every)
                shares.append(Int8Conv2d(share, weight_scales(into.weight * steps), share.bias))
            elif form == "full":
                shares.append(_patch_conv(model, into.weight @ matrix, bias, 1, dtype, every))
            else:
                shares.append(_pointwise(Affine(into.weight[:, kept], bias), dtype, every))
        self.shares = nn.ModuleList(shares)
        self.resizes = nn.ModuleList(grid_resize(own, grid, dtype) for own in self.layers_of)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The map `(B, out, h, w)` of what `pools` gave."""
        shares = [share(part) for share, part in zip(self.shares, parts, strict=True)]
        by_grid = [[shares[layer] for layer in layers] for layers in self.layers_of.values()]
        added = [resize(sum(same[1:], start=same[0])) for same, resize in zip(by_grid, self.resizes, strict=True)]
        total: Tensor = sum(added[1:], start=added[0])
        return total


class _Joined(nn.Module):
    """The same on the embedding: rows of all layers resized to the first one's grid and joined, then mapped."""

    def __init__(
        self,
        model: SimpleNet,
        into: Affine,
        matrices: Sequence[Tensor],
        forms: Sequence[LayerForm],
        grid: Grid,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        kept = [into.weight[:, matrix.ne(0).any(dim=1)] for matrix in matrices]
        stride = 1 if grid == model.grids[0] else model.config.memory_stride
        self.mix = _pointwise(Affine(torch.cat(kept, dim=1), into.bias), dtype, stride)
        self.resizes = nn.ModuleList(grid_resize(own, model.grids[0], dtype) for own in model.grids)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The map `(B, out, h, w)` of what `pools` gave."""
        rows = [resize(part) for part, resize in zip(parts, self.resizes, strict=True)]
        mixed: Tensor = self.mix(torch.cat(rows, dim=1))
        return mixed


def _pool(model: SimpleNet, layer: int, matrix: Tensor, channels: int, dtype: torch.dtype) -> nn.Module:
    """The rows of `P_l` that are not zero, as a convolution of a layer's feature map; in INT8 where the model is.

    There it reads rounded features and gives each channel in a step of its own, from its middle, rounded too.
    """
    kept, quantizer = matrix.ne(0).any(dim=1), model.head_quantizer
    rows = matrix[kept]
    groups = group_count(rows, channels)
    if quantizer is None:
        return _patch_conv(model, rows, torch.empty(0), groups, dtype)
    steps, middles = (values[..., kept].double().cpu() for values in (quantizer.steps, quantizer.middles[layer]))
    conv = _patch_conv(model, rows / steps[:, None], torch.empty(0), groups, torch.float64)
    return nn.Sequential(
        copy.deepcopy(quantizer.features[layer]),
        Int8Conv2d(conv, exact_scales(conv.weight.detach()), -middles / steps),
        _quantizer(torch.ones(())),
    )


def _patch_conv(
    model: SimpleNet, rows: Tensor, bias: Tensor, groups: int, dtype: torch.dtype, every: int = 1
) -> nn.Conv2d:
    """Rows `(R, C * k * k)` of patches as a convolution; no bias where that is empty."""
    maker = model.patch_maker
    channels = rows.shape[1] // maker.patch_size**2
    conv = nn.Conv2d(
        channels,
        len(rows),
        maker.patch_size,
        stride=maker.stride * every,
        padding=maker.padding,
        groups=groups,
        bias=len(bias) > 0,
        dtype=dtype,
    )
    conv.weight.data = grouped_weight(rows, channels, groups).reshape(conv.weight.shape).to(dtype)
    if conv.bias is not None:
        conv.bias.data = bias.to(dtype)
    return conv


def _quantizer(scale: Tensor) -> Quantizer:
    quantizer = Quantizer()
    quantizer.scale.copy_(scale)
    return quantizer


def grouped_weight(rows: Tensor, channels: int, groups: int) -> Tensor:
    """Block-diagonal rows `(R, C * k * k)` as the weight of a grouped convolution `(R, C / g, k * k)`."""
    per_group = channels // groups
    blocks = rows.reshape(groups, len(rows) // groups, groups, per_group, -1)
    return torch.stack([blocks[i, :, i] for i in range(groups)]).flatten(0, 1)


def _pointwise(affine: Affine, dtype: torch.dtype, every: int = 1) -> nn.Conv2d:
    """An affine map of the channels of every so-manyth cell, as a 1x1 convolution; no bias where that is empty."""
    out, into = affine.weight.shape
    conv = nn.Conv2d(into, out, 1, stride=every, bias=len(affine.bias) > 0, dtype=dtype)
    conv.weight.data = affine.weight[:, :, None, None].to(dtype)
    if conv.bias is not None:
        conv.bias.data = affine.bias.to(dtype)
    return conv
