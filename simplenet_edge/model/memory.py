"""What good patches look like, remembered: how far a patch is from the nearest of some that cover all of them.

The discriminator learns where most good patches lie; a rare one, such as an edge that few parts show, it takes for an
anomaly as easily as a defect. A memory that covers the training patches evenly (the coreset of PatchCore; Roth et al.,
CVPR 2022) knows the rare ones as well as the common. Distances are Euclidean, on the leading principal components of
the standardised embedding, and on every `stride`-th patch of each axis: a patch overlaps its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.patches import grid_resize
from simplenet_edge.model.quantization import Quantizer

__all__ = ["PatchMemory"]


class PatchMemory(nn.Module):
    """At most `size` remembered patches on `components` directions; zeros until training fills them.

    A patch's anomaly score is `score_scale` times the discriminator's, plus `distance_scale` times its distance, plus
    `shift`. No distance is less than `floor`: nearer says nothing more, and is lost in the rounding of large squares.
    With `int8` coordinates, those of the remembered patches too, are 256 multiples of one step.
    """

    def __init__(self, dim: int, size: int, components: int, stride: int, grid: Grid, *, int8: bool = False) -> None:
        super().__init__()
        self.quantizer = Quantizer() if int8 else None
        self.stride = stride
        self.grid_hw = grid.hw
        coarse_hw = (-(-grid.hw[0] // stride), -(-grid.hw[1] // stride))
        self.grid = Grid(coarse_hw, grid.rows.every(stride), grid.columns.every(stride))
        self.resize = grid_resize(self.grid, grid)
        self.register_buffer("components", torch.zeros(components, dim))
        self.register_buffer("patches", torch.zeros(size, components))
        self.register_buffer("score_scale", torch.ones(()))
        self.register_buffer("distance_scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("floor", torch.zeros(()))
        self.components: Tensor
        self.patches: Tensor
        self.score_scale: Tensor
        self.distance_scale: Tensor
        self.shift: Tensor
        self.floor: Tensor

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Take the size of the memory in a model's state, which may hold fewer patches than its configuration says."""
        saved = state.get("memory.patches")
        if saved is not None and saved.ndim == 2 and 0 < len(saved) <= len(self.patches):
            self.patches = self.patches[: len(saved)]

    def coordinates(self, standardized: Tensor) -> Tensor:
        """Standardised rows `(N, D)` on the principal components, `(N, components)`."""
        coordinates = standardized @ self.components.T
        return coordinates if self.quantizer is None else self.quantizer(coordinates)

    def distances(self, standardized: Tensor) -> Tensor:
        """Standardised rows `(N, D)` as distances to the nearest remembered patch, `(N,)`."""
        coordinates = self.coordinates(standardized)
        products = torch.addmm(self.patches.square().sum(dim=1), coordinates, self.patches.T, alpha=-2)
        squares = products.amin(dim=1) + coordinates.square().sum(dim=1)
        return torch.maximum(squares, self.floor.square()).sqrt()

    def forward(self, standardized: Tensor, scores: Tensor) -> Tensor:
        """Standardised rows `(B*h*w, D)` of whole images, and their discriminator scores, as scores `(B*h*w,)`."""
        height, width = self.grid_hw
        rows = standardized.reshape(-1, height, width, standardized.shape[1])[:, :: self.stride, :: self.stride]
        coarse = self.distances(rows.flatten(0, 2)).reshape(-1, 1, *self.grid.hw)
        distances: Tensor = self.resize(coarse).flatten()
        return self.score_scale * scores + self.distance_scale * distances + self.shift
