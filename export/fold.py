"""The algebra of the fused head: plain values in, plain values out, all in float64.

Everything between the backbone's feature maps and the first activation is linear. With `P_l` the constant matrix that
takes the patches of layer l to their share of the embedding (both poolings of the model), and `M x + b` the linear
layers up to the first activation, the head starts with

    z = sum_l resize_l(conv(f_l; M P_l)) + b

because resizing between grids acts on positions and the matrices act on channels, so that the two commute, and
because the weights of a bilinear resize sum to one at each position, so that `b` may come first or last. The
coordinates of the patch memory are linear in the embedding too, with an `M` of their own, on the memory's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simplenet_edge.model.simplenet import SimpleNet, Standardizer

__all__ = [
    "Affine",
    "Stage",
    "fold_linear",
    "group_count",
    "head_stages",
    "memory_coordinates",
]


class Affine(NamedTuple):
    """`x -> weight @ x + bias`: weight float64 `(out, in)`, bias float64 `(out,)`."""

    weight: Tensor
    bias: Tensor

    def then(self, after: Affine) -> Affine:
        """This one first, `after` behind it, as one."""
        return Affine(after.weight @ self.weight, after.weight @ self.bias + after.bias)


@dataclass(frozen=True)
class Stage:
    """An affine map and, where `slope` is not None, the LeakyReLU behind it."""

    affine: Affine
    slope: float | None


def head_stages(model: SimpleNet) -> list[Stage]:
    """Everything behind the embedding, from the standardisation to the anomaly score, as few stages as it can be.

    Runs of linear layers, batch norms (evaluation mode) and the standardisation become one affine map each; the sign
    of the last is turned, so that larger means more anomalous. Where there is a memory, the last is scaled and shifted
    as the memory says; its distances are still to be added.
    """
    dim = model.config.target_embed_dim
    modules = [model.standardizer, *model.pre_projection.modules(), *model.discriminator.modules()]
    stages, pending = [], Affine(torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64))
    for module in modules:
        if isinstance(module, nn.LeakyReLU):
            stages.append(Stage(pending, module.negative_slope))
            width = len(pending.bias)
            pending = Affine(torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64))
        elif (affine := fold_linear(module)) is not None:
            pending = pending.then(affine)
    last = Affine(-pending.weight, -pending.bias)
    if (memory := model.memory) is not None:
        scale = memory.score_scale.double().cpu()
        last = Affine(scale * last.weight, scale * last.bias + memory.shift.double().cpu())
    return [*stages, Stage(last, None)]


def memory_coordinates(model: SimpleNet) -> Affine:
    """The embedding's coordinates in the memory, in units of the score: `(memory_dim, target_embed_dim)`."""
    assert model.memory is not None
    scaled = fold_linear(model.standardizer)
    assert scaled is not None
    components = (model.memory.distance_scale.double() * model.memory.components.double()).cpu()
    return scaled.then(Affine(components, torch.zeros(len(components), dtype=torch.float64)))


def fold_linear(module: nn.Module) -> Affine | None:
    """A linear layer, an evaluation-mode batch norm or a standardisation as an affine map; None for a container."""
    if isinstance(module, nn.Linear):
        weight = module.weight.detach().double().cpu()
        bias = (
            torch.zeros(len(weight), dtype=torch.float64)
            if module.bias is None
            else module.bias.detach().double().cpu()
        )
        return Affine(weight, bias)
    if isinstance(module, nn.BatchNorm1d):
        assert module.running_mean is not None
        assert module.running_var is not None
        scale = module.weight.detach().double() / (module.running_var.double() + module.eps).sqrt()
        bias = module.bias.detach().double() - scale * module.running_mean.double()
        return Affine(torch.diag(scale).cpu(), bias.cpu())
    if isinstance(module, Standardizer):
        scale = (1 / module.std.double()).cpu()
        return Affine(torch.diag(scale), -scale * module.mean.double().cpu())
    assert isinstance(module, nn.Sequential | nn.Identity) or not list(module.parameters(recurse=False)), module
    return None


def group_count(matrix: Tensor, channels: int) -> int:
    """The most groups in which rows `(R, C * k * k)` can run as a grouped convolution, 1 where it can't be split.

    Group i takes the i-th part of the rows and may read the i-th part of the channels only.
    """
    rows = len(matrix)
    used = matrix.reshape(rows, channels, -1).ne(0).any(dim=2)
    for groups in range(min(rows, channels), 1, -1):
        if rows % groups or channels % groups:
            continue
        blocks = used.reshape(groups, rows // groups, groups, channels // groups).any(dim=3).any(dim=1)
        if not (blocks & ~torch.eye(groups, dtype=torch.bool)).any():
            return groups
    return 1
