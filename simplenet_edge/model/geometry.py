"""Where the cells of a feature map lie in the image: positions in pixels of the model frame, pixel 0 at 0.

A resize takes the cells of a map to be spread evenly over the image: cell i of stride s at `s i + (s - 1) / 2`. That is
so for VGG and ConvNeXt, whose windows don't overlap where they shrink the map. Kernels of odd size that are padded to
keep their middle, as in ResNet, MobileNet and EfficientNet, put it at `s i`: their maps come out 3.5 pixels too far
right and down at stride 8, 7.5 at stride 16. The receptive fields say which it is (Araujo et al., Distill 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

__all__ = ["Cells", "Grid", "interpolation_matrix", "operator_mode", "receptive_fields"]

_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


class Cells(NamedTuple):
    """Cells along one axis: cell i lies at `first + stride * i` pixels."""

    first: float
    stride: float

    def every(self, step: int) -> Cells:
        """Each `step`-th of these cells."""
        return Cells(self.first, self.stride * step)

    def fit(self, counts: Iterable[int], sizes: Iterable[int]) -> bool:
        """Whether the middle of so many cells is the middle of so many pixels, give or take two cells."""
        return all(
            abs(self.first + (self.stride * (count - 1) - (size - 1)) / 2) <= 2 * self.stride
            for count, size in zip(counts, sizes, strict=True)
        )


class Grid(NamedTuple):
    """The cells of a feature map of size `hw`, along both axes."""

    hw: tuple[int, int]
    rows: Cells
    columns: Cells

    @classmethod
    def of_pixels(cls, size_hw: tuple[int, int]) -> Grid:
        """The pixels of an image."""
        return cls(size_hw, Cells(0.0, 1.0), Cells(0.0, 1.0))

    @classmethod
    def spread_evenly(cls, hw: tuple[int, int], size_hw: tuple[int, int]) -> Grid:
        """Cells spread evenly over an image, at half-pixel centres: where a resize takes them to be."""
        rows, columns = (Cells((size / count - 1) / 2, size / count) for size, count in zip(size_hw, hw, strict=True))
        return cls(hw, rows, columns)

    def matrices_to(self, other: Grid) -> tuple[Tensor, Tensor]:
        """Bilinear interpolation to the other grid, float64: `x (h, w)` becomes `rows @ x @ columns`."""
        rows = interpolation_matrix(self.rows, self.hw[0], other.rows, other.hw[0])
        columns = interpolation_matrix(self.columns, self.hw[1], other.columns, other.hw[1])
        return rows, columns.T.contiguous()


def receptive_fields(body: GraphModule) -> dict[str, Cells]:
    """The middle of the receptive field of each output of a feature extractor, by its name.

    Where branches of different middle meet, it is their mean; what pools over the whole image has none. Only windows
    of `nn` modules are seen: where something else shrinks the map, the stride comes out too small, which `Cells.fit`
    finds.
    """
    modules = dict(body.named_modules())
    cells: dict[Any, Cells | None] = {}
    for node in body.graph.nodes:
        if node.op == "placeholder":
            cells[node] = Cells(0.0, 1.0)
        elif node.op == "output":
            return {name: cells[value] or Cells(0.0, 1.0) for name, value in node.args[0].items()}
        else:
            parts = modules[node.target].modules() if node.op == "call_module" else ()
            cells[node] = _behind([cells[other] for other in node.all_input_nodes], parts)
    raise AssertionError("a graph without an output")


def _behind(inputs: Iterable[Cells | None], modules: Iterable[nn.Module]) -> Cells | None:
    """The cells behind one node: its inputs, then the windows of its modules one after the other."""
    known = [cells for cells in inputs if cells is not None]
    modules = list(modules)
    if not known or (modules and isinstance(modules[0], nn.AdaptiveAvgPool2d)):
        return None
    first, stride = float(np.mean([cells.first for cells in known])), max(cells.stride for cells in known)
    for module in modules:
        if isinstance(module, _WINDOWED):
            dilation = getattr(module, "dilation", 1)
            side, step, padding, gap = (
                _one(value) for value in (module.kernel_size, module.stride, module.padding, dilation)
            )
            first, stride = first + stride * ((side - 1) * gap / 2 - padding), stride * step
    return Cells(first, stride)


def _one(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def interpolation_matrix(cells: Cells, count: int, new: Cells, new_count: int) -> Tensor:
    """Linear interpolation from `count` cells to `new_count` others as a matrix float64 `(new_count, count)`.

    Before the first cell and behind the last, the nearest one counts.
    """
    places = (new.first + new.stride * np.arange(new_count) - cells.first) / cells.stride
    places = np.clip(places, 0, count - 1)
    hats: npt.NDArray[np.float64] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)))
    return torch.from_numpy(hats)


def operator_mode(grid: Grid, new: Grid) -> Literal["half_pixel", "asymmetric"] | None:
    """How ONNX's `Resize` by whole factors would have to read coordinates to interpolate so, None where it can't."""
    axes = [
        (grid.rows, grid.hw[0], new.rows, new.hw[0]),
        (grid.columns, grid.hw[1], new.columns, new.hw[1]),
    ]
    if not all(
        new_count % count == 0 and math.isclose(cells.stride, new_cells.stride * (new_count // count))
        for cells, count, new_cells, new_count in axes
    ):
        return None
    shifts = [(new_cells.first - cells.first, (new_cells.stride - cells.stride) / 2) for cells, _, new_cells, _ in axes]
    if all(math.isclose(shift, half, abs_tol=1e-9) for shift, half in shifts):
        return "half_pixel"
    return "asymmetric" if all(shift == 0 for shift, _ in shifts) else None
