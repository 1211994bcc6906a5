"""From feature maps `(B, C, h, w)` to one embedding row a patch, and from patch scores back to a map.

Everything here is linear and has no parameters; on grids of half-pixel centres it follows the official code
(`PatchMaker`, `MeanMapper`, `Aggregator`, `RescaleSegmentor` of DonaldRR/SimpleNet) number by number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simplenet_edge.model.geometry import Grid, operator_mode
from simplenet_edge.spec import SimpleNetConfig

__all__ = [
    "AnomalyMap",
    "PatchMaker",
    "align_patches",
    "embedding_matrices",
    "gaussian_matrix",
    "grid_resize",
    "image_scores",
    "layer_share",
    "pool_patches",
    "pooling_matrix",
]


class PatchMaker:
    """Cuts feature maps into overlapping patches and puts patch scores back on their grid."""

    def __init__(self, patch_size: int = 3, stride: int = 1) -> None:
        self.patch_size = patch_size
        self.stride = stride
        self.padding = patch_size // 2

    def grid_hw(self, features_hw: Sequence[int]) -> tuple[int, int]:
        """Patches along (height, width) of feature maps of that size."""
        height, width = ((side + 2 * self.padding - self.patch_size) // self.stride + 1 for side in features_hw)
        return height, width

    def patchify(self, features: Tensor) -> Tensor:
        """Feature maps `(B, C, h, w)` as zero-padded patches `(B, N, C, k, k)`, row by row."""
        unfolded = F.unfold(features, self.patch_size, stride=self.stride, padding=self.padding)
        batch, _, patches = unfolded.shape
        shape = (batch, features.shape[1], self.patch_size, self.patch_size, patches)
        return unfolded.reshape(shape).permute(0, 4, 1, 2, 3)

    def unpatch_scores(self, scores: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Patch scores `(B*N,)` as maps `(B, h, w)` on the patch grid."""
        return scores.reshape(-1, *grid_hw)


class GridResize(nn.Module):
    """Bilinear interpolation of maps `(B, C, h, w)` from one grid to another: one constant matrix an axis."""

    def __init__(self, grid: Grid, new: Grid, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        rows, columns = grid.matrices_to(new)
        self.register_buffer("rows", rows.to(dtype), persistent=False)
        self.register_buffer("columns", columns.to(dtype), persistent=False)
        self.rows: Tensor
        self.columns: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Each channel on the new grid: `(B, C, h', w')`."""
        return self.rows @ (x @ self.columns)


class OperatorResize(GridResize):
    """The same by whole factors; in an ONNX graph it is the operator `Resize`, which every runtime has, with `mode`."""

    def __init__(self, grid: Grid, new: Grid, mode: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(grid, new, dtype)
        self.mode = mode
        self.scales = [float(count // old) for old, count in zip(grid.hw, new.hw, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """Each channel on the new grid: `(B, C, h', w')`."""
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        return torch.onnx.ops.symbolic(
            "Resize",
            (x, None, torch.tensor([1.0, 1.0, *self.scales])),
            {"mode": "linear", "coordinate_transformation_mode": self.mode},
            dtype=x.dtype,
            shape=(*x.shape[:2], len(self.rows), self.columns.shape[1]),
            version=18,
        )


def grid_resize(grid: Grid, new: Grid, dtype: torch.dtype = torch.float32) -> nn.Module:
    """From one grid to another: nothing, `Resize` by whole factors, or matrices.

    By other factors the operator would compute its output's shape from a scale that no float holds exactly.
    """
    if grid == new:
        return nn.Identity()
    mode = operator_mode(grid, new)
    return GridResize(grid, new, dtype) if mode is None else OperatorResize(grid, new, mode, dtype)


def align_patches(patches: Tensor, grid_hw: tuple[int, int], resize: nn.Module) -> Tensor:
    """Patches `(B, N, C, k, k)` of a grid, each entry resized to another by `resize`: `(B, N', C, k, k)`."""
    batch, _, *patch_shape = patches.shape
    maps: Tensor = resize(patches.permute(0, 2, 3, 4, 1).reshape(batch, -1, *grid_hw))
    return maps.reshape(batch, *patch_shape, -1).permute(0, 4, 1, 2, 3)


def pool_patches(patches: Sequence[Tensor], pretrain_embed_dim: int, target_embed_dim: int) -> Tensor:
    """Aligned patches of each layer `(B, N, C_l, k, k)` as embedding rows `(B*N, target_embed_dim)`.

    Each layer is averaged to `pretrain_embed_dim` entries (the official `MeanMapper`), the layers are joined and
    averaged once more to `target_embed_dim` (the official `Aggregator`).
    """
    pooled = [F.adaptive_avg_pool1d(p.flatten(0, 1).flatten(1).unsqueeze(1), pretrain_embed_dim) for p in patches]
    joined = torch.cat(pooled, dim=2)
    return F.adaptive_avg_pool1d(joined, target_embed_dim).squeeze(1)


def layer_share(patches: Tensor, layer: int, n_layers: int, pretrain_embed_dim: int, target_embed_dim: int) -> Tensor:
    """What the patches `(B, N, C, k, k)` of one layer add to `pool_patches`, on their own grid: `(B, target, N)`."""
    pooled = F.adaptive_avg_pool1d(patches.flatten(2), pretrain_embed_dim)
    around = (layer * pretrain_embed_dim, (n_layers - 1 - layer) * pretrain_embed_dim)
    return F.adaptive_avg_pool1d(F.pad(pooled, around), target_embed_dim).transpose(1, 2)


def pooling_matrix(size: int, new_size: int) -> Tensor:
    """`adaptive_avg_pool1d` from `size` to `new_size` entries as a matrix float64 `(new_size, size)`.

    Windows overlap where the sizes don't divide; it is linear all the same.
    """
    identity = torch.eye(size, dtype=torch.float64).unsqueeze(1)
    return F.adaptive_avg_pool1d(identity, new_size).squeeze(1).T.contiguous()


def embedding_matrices(config: SimpleNetConfig, channels: Sequence[int]) -> list[Tensor]:
    """`P_l` of each layer, float64 `(target_embed_dim, C_l * k * k)`: patch entries (c, kh, kw) -> embedding."""
    joined = pooling_matrix(len(channels) * config.pretrain_embed_dim, config.target_embed_dim)
    blocks = joined.reshape(config.target_embed_dim, len(channels), config.pretrain_embed_dim).unbind(1)
    area = config.patch_size**2
    return [
        block @ pooling_matrix(c * area, config.pretrain_embed_dim) for block, c in zip(blocks, channels, strict=True)
    ]


def image_scores(patch_scores: Tensor, top_k: int) -> Tensor:
    """Patch scores `(B, h, w)` as scores `(B,)`: the mean of the `top_k` largest, or of all where there are fewer."""
    if top_k == 1:
        return patch_scores.amax(dim=(1, 2))
    patches = patch_scores.shape[1] * patch_scores.shape[2]
    return patch_scores.reshape(-1, patches).topk(min(top_k, patches), dim=1).values.mean(dim=1)


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """`scipy.ndimage.gaussian_filter1d(sigma, mode="reflect")` along one axis as a matrix `(size, size)`, float64."""
    identity = np.eye(size, dtype=np.float64)
    if sigma == 0:
        return torch.from_numpy(identity)
    return torch.from_numpy(scipy.ndimage.gaussian_filter1d(identity, sigma, axis=0, mode="reflect"))


class AnomalyMap(GridResize):
    """Patch scores `(B, h, w)` -> anomaly map `(B, H, W)`: bilinear upsampling, then a Gaussian of `sigma` pixels.

    Both steps are linear and separable, so each axis is one constant matrix. On a grid of half-pixel centres it equals
    the official `RescaleSegmentor` (scipy's `gaussian_filter`) to float32 rounding.
    """

    def __init__(self, grid: Grid, size_hw: tuple[int, int], sigma: float) -> None:
        super().__init__(grid, Grid.of_pixels(size_hw), torch.float64)
        height, width = size_hw
        self.rows = (gaussian_matrix(height, sigma) @ self.rows).float()
        self.columns = (self.columns @ gaussian_matrix(width, sigma).T).float().contiguous()
