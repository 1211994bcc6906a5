from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.patches import (
    AnomalyMap,
    PatchMaker,
    align_patches,
    gaussian_matrix,
    grid_resize,
    pool_patches,
)


@settings(max_examples=30)
@given(
    side=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    height=st.integers(3, 7),
    width=st.integers(3, 7),
)
def test_patchify_cuts_the_zero_padded_windows(side: int, stride: int, height: int, width: int) -> None:
    features = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 8 + width))
    maker = PatchMaker(side, stride)
    patches = maker.patchify(features)
    rows, columns = maker.grid_hw((height, width))
    assert patches.shape == (2, rows * columns, 3, side, side)
    padded = F.pad(features, [side // 2] * 4)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            window = padded[:, :, top : top + side, left : left + side]
            assert torch.equal(patches[:, row * columns + column], window)


def test_unpatch_scores_is_row_by_row() -> None:
    maps = PatchMaker().unpatch_scores(torch.arange(12.0), (2, 3))
    assert maps.shape == (2, 2, 3)
    assert maps[1].tolist() == [[6, 7, 8], [9, 10, 11]]


def official_align(patches: torch.Tensor, grid: tuple[int, int], reference: tuple[int, int]) -> torch.Tensor:
    """The reshapes and permutes of the official `_embed`."""
    patches = patches.reshape(patches.shape[0], *grid, *patches.shape[2:])
    patches = patches.permute(0, -3, -2, -1, 1, 2)
    shape = patches.shape
    patches = F.interpolate(patches.reshape(-1, 1, *shape[-2:]), size=reference, mode="bilinear", align_corners=False)
    patches = patches.squeeze(1).reshape(*shape[:-2], *reference).permute(0, -2, -1, 1, 2, 3)
    return patches.reshape(len(patches), -1, *patches.shape[-3:])


@pytest.mark.parametrize(("grid", "reference"), [((4, 5), (8, 10)), ((6, 6), (4, 9)), ((3, 3), (3, 3))])
def test_align_patches_is_the_official_alignment(grid: tuple[int, int], reference: tuple[int, int]) -> None:
    patches = torch.randn(2, grid[0] * grid[1], 4, 3, 3)
    old, new = (Grid.spread_evenly(hw, (64, 90)) for hw in (grid, reference))
    found = align_patches(patches, grid, grid_resize(old, new))
    assert torch.allclose(found, official_align(patches, grid, reference), atol=1e-5)


@pytest.mark.parametrize("dims", [(36, 36), (20, 30), (64, 16)])  # divides, overlaps, more entries than there are
def test_pool_patches_is_two_adaptive_means(dims: tuple[int, int]) -> None:
    first, second = torch.randn(2, 5, 4, 3, 3), torch.randn(2, 5, 7, 3, 3)
    rows = pool_patches([first, second], *dims)
    assert rows.shape == (10, dims[1])
    pretrain = [F.adaptive_avg_pool1d(p[1, 2].reshape(1, -1), dims[0]) for p in (first, second)]
    expected = F.adaptive_avg_pool1d(torch.cat(pretrain, dim=1), dims[1])[0]
    assert torch.allclose(rows[1 * 5 + 2], expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.7, 4.0, 30.0])  # 30: wider than the signal, reflected more than once
def test_gaussian_matrix_is_scipy(sigma: float, rng: np.random.Generator) -> None:
    signal = rng.standard_normal(24)
    expected = signal if sigma == 0 else scipy.ndimage.gaussian_filter1d(signal, sigma, mode="reflect")
    assert np.allclose(gaussian_matrix(24, sigma).numpy() @ signal, expected, atol=1e-12)


def test_anomaly_map_is_upsampling_and_gaussian_filter() -> None:
    scores = torch.randn(2, 9, 7)
    found = AnomalyMap(Grid.spread_evenly((9, 7), (72, 64)), (72, 64), 4.0)(scores)
    upsampled = F.interpolate(scores.unsqueeze(1), size=(72, 64), mode="bilinear", align_corners=False)[:, 0]
    expected = np.stack([scipy.ndimage.gaussian_filter(one, sigma=4) for one in upsampled.numpy()])
    assert np.abs(found.numpy() - expected).max() < 1e-5
