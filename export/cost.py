"""What each form of the folded head costs, and which is cheapest: multiply-adds and bytes moved, for one frame.

No clock is read: the choice is the same on every machine. `benchmarks/fusion.py` confirms it by measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

from simplenet_edge.export.fold import group_count, head_stages
from simplenet_edge.export.folded_head import LayerForm
from simplenet_edge.model.geometry import Grid, operator_mode
from simplenet_edge.model.patches import embedding_matrices
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["Cost", "as_written_cost", "choose_forms", "form_costs", "memory_cost"]

FLOAT_BYTES = 4
MACS_PER_BYTE = 10
"""Multiply-adds that take as long as moving one byte; between a desktop CPU (about 5) and an Orin's FP16 (about 50)."""


@dataclass(frozen=True)
class Cost:
    """Multiply-adds and bytes read and written (activations and weights, float32) for one frame."""

    macs: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes)

    @property
    def weight(self) -> int:
        """One figure to compare by."""
        return self.macs + MACS_PER_BYTE * self.bytes


def _conv(into: int, out: int, area: int, groups: int, in_cells: int, out_cells: int) -> Cost:
    weights = out * (into // groups) * area
    return Cost(weights * out_cells, FLOAT_BYTES * (weights + into * in_cells + out * out_cells))


def _resize(channels: int, grid: Grid, new: Grid) -> Cost:
    if grid == new:
        return Cost(0, 0)
    (h, w), (new_h, new_w) = grid.hw, new.hw
    if operator_mode(grid, new) is not None:  # four neighbours each
        return Cost(4 * channels * new_h * new_w, FLOAT_BYTES * channels * (h * w + new_h * new_w))
    macs = channels * (h * w * new_w + new_h * h * new_w)
    return Cost(macs, FLOAT_BYTES * channels * (h * w + 2 * h * new_w + new_h * new_w))


def form_costs(model: SimpleNet) -> dict[LayerForm, list[Cost]]:
    """The cost of each layer's share of what is linear in the embedding; `embed` splits the joint 1x1 by layer.

    That is the first stage, on the first layer's grid, and the memory's coordinates, on its own. Layers of one grid are
    added before they are resized: the first of them bears the cost.
    """
    shapes = model.backbone.feature_shapes(model.input_spec.size_hw)
    matrices = embedding_matrices(model.config, [shape[0] for shape in shapes])
    area, reference = model.config.patch_size**2, model.grids[0]
    wanted = [(len(head_stages(model)[0].affine.bias), reference)]
    if model.memory is not None:
        wanted.append((len(model.memory.components), model.memory.grid))
    costs: dict[LayerForm, list[Cost]] = {"full": [], "pooled": [], "embed": []}
    for i, (matrix, (channels, *features_hw), grid) in enumerate(zip(matrices, shapes, model.grids, strict=True)):
        rows = matrix[matrix.ne(0).any(dim=1)]
        n_rows, groups = len(rows), group_count(rows, channels)
        in_cells, cells, all_cells = (height * width for height, width in (features_hw, grid.hw, reference.hw))
        full = Cost(0, 0)
        pooled = _conv(channels, n_rows, area, groups, in_cells, cells)
        embed = pooled + _resize(n_rows, grid, reference)
        for out, target in wanted:
            target_cells = target.hw[0] * target.hw[1]
            own = target if grid == reference else grid  # of the first layer's patches, only those that are wanted
            own_cells = own.hw[0] * own.hw[1]
            widened = Cost(0, 0) if grid in model.grids[:i] else _resize(out, own, target)
            full += _conv(channels, out, area, 1, in_cells, own_cells) + widened
            pooled += _conv(n_rows, out, 1, 1, cells, own_cells) + widened
            embed += _conv(n_rows, out, 1, 1, all_cells, target_cells)
        costs["full"].append(full)
        costs["pooled"].append(pooled)
        costs["embed"].append(embed)
    return costs


def choose_forms(model: SimpleNet) -> list[LayerForm]:
    """The cheapest form: the better of `full` and `pooled` for each layer, or `embed` for all; `pooled` for INT8."""
    if model.head_quantizer is not None:
        return ["pooled"] * len(model.grids)
    costs = form_costs(model)
    separate: list[LayerForm] = [
        "full" if full.weight <= pooled.weight else "pooled"
        for full, pooled in zip(costs["full"], costs["pooled"], strict=True)
    ]
    apart = sum(costs[form][i].weight for i, form in enumerate(separate))
    joined = sum(cost.weight for cost in costs["embed"])
    return separate if apart <= joined else ["embed"] * len(separate)


def memory_cost(model: SimpleNet) -> Cost:
    """What the distances to the remembered patches cost; nothing where there is no memory."""
    if model.memory is None:
        return Cost(0, 0)
    (size, components), (height, width) = model.memory.patches.shape, model.memory.grid.hw
    read_back = Cost(0, FLOAT_BYTES * size * height * width)
    product = _conv(components, size, 1, 1, height * width, height * width)
    return product + read_back + _resize(1, model.memory.grid, model.grids[0])


def as_written_cost(model: SimpleNet) -> Cost:
    """The head as the paper's code runs it: patches unfolded, resized, pooled twice, then linear layers row by row."""
    shapes = model.backbone.feature_shapes(model.input_spec.size_hw)
    config, cells = model.config, model.grid_hw[0] * model.grid_hw[1]
    total = Cost(0, 0)
    for (channels, *features_hw), grid in zip(shapes, model.grids, strict=True):
        entries = channels * config.patch_size**2
        unfolded = FLOAT_BYTES * (channels * features_hw[0] * features_hw[1] + 2 * entries * grid.hw[0] * grid.hw[1])
        total += Cost(0, unfolded) + _resize(entries, grid, model.grids[0])
        total += Cost(entries * cells, FLOAT_BYTES * cells * (entries + config.pretrain_embed_dim))
    joined = len(shapes) * config.pretrain_embed_dim
    total += Cost(joined * cells, FLOAT_BYTES * cells * (joined + config.target_embed_dim))
    for module in [*model.pre_projection.modules(), *model.discriminator.modules()]:
        if hasattr(module, "in_features"):
            total += _conv(int(module.in_features), int(module.out_features), 1, 1, cells, cells)  # type: ignore[arg-type]
    if model.memory is not None:
        coarse = model.memory.grid.hw[0] * model.memory.grid.hw[1]
        total += _conv(config.target_embed_dim, config.memory_dim, 1, 1, coarse, coarse)
    return total + memory_cost(model)
