"""Statistics equal NumPy's, the cache keeps to its budget, and what is on disk is trusted only when whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simplenet_edge.data import reading as data
from simplenet_edge.errors import DataError
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames
from simplenet_edge.training.features import FeatureCache, Moments, extract_features, whitening

N_IMAGES = 5


@pytest.fixture(scope="module")
def model() -> SimpleNet:
    return build_simplenet("resnet18", random_weights=True, size_hw=(64, 64)).eval()


@pytest.fixture(scope="module")
def frames() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (N_IMAGES, 64, 64, 3), dtype=np.uint8)


def extract(model: SimpleNet, frames: Frames, folder: Path, budget_bytes: int = 2**30) -> FeatureCache:
    return extract_features(
        model, frames, len(frames), folder, key="k", budget_bytes=budget_bytes, seed=0, batch_size=2
    )


@pytest.mark.parametrize("full", [True, False])
def test_moments_equal_numpy_whatever_the_batches(rng: np.random.Generator, full: bool) -> None:
    rows = rng.normal(1e3, [0.1, 1.0, 10.0], (1000, 3)) @ rng.normal(size=(3, 3))  # correlated, far from zero
    moments = Moments(3, full=full)
    for batch in np.split(rows, [1, 10, 500]):
        moments.add(batch)
    expected = np.cov(rows, rowvar=False, bias=True)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, expected if full else np.diagonal(expected), rtol=1e-6)


def test_whitening_makes_rows_uncorrelated_and_limits_dead_directions(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(5000, 4)) @ rng.normal(size=(4, 4))
    rows = np.column_stack([rows, rows[:, 0]])  # the last channel repeats the first: one direction has no variance
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    matrix = whitening(np.corrcoef(rows, rowvar=False), shrinkage=1e-4)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert np.linalg.eigvalsh(matrix).max() == pytest.approx(100, rel=1e-3)  # 1e-4 ** -0.5
    variances = np.linalg.eigvalsh(np.cov(rows @ matrix, rowvar=False))
    np.testing.assert_allclose(variances, [0, 1, 1, 1, 1], atol=0.02)


def test_cache_holds_every_patch_and_its_statistics(model: SimpleNet, frames: Frames, tmp_path: Path) -> None:
    cache = extract(model, frames, tmp_path)
    with torch.inference_mode():
        rows = model.embed(model.normalize(torch.from_numpy(frames))).double().numpy()
    assert cache.n_images == N_IMAGES
    assert cache.rows.dtype == np.float16
    np.testing.assert_allclose(cache.rows, rows, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(cache.mean, rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(cache.std, rows.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(cache.correlation, np.corrcoef(rows, rowvar=False), atol=1e-4)


def test_on_a_cpu_rows_are_the_full_precision_ones_rounded_once(
    model: SimpleNet, frames: Frames, tmp_path: Path
) -> None:
    cache = extract(model, frames[:2], tmp_path)
    with torch.inference_mode():
        rows = model.embed(model.normalize(torch.from_numpy(frames[:2])))
    assert rows.dtype == torch.float32
    rounding = 2.0**-11 * np.abs(rows.numpy()) + 1e-5 * float(rows.abs().max())
    assert (np.abs(cache.rows - rows.numpy()) <= rounding).all()  # half-precision convolutions would differ by more


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (8 * 64 * 64, [3, 5]),  # room for more than the batch that was asked for
        (2 * 64 * 64, [2, 4, 5]),
        (64 * 64 - 1, [1, 2, 3, 4, 5]),  # one frame alone is too large and still goes through
    ],
)
def test_larger_frames_come_in_smaller_batches(
    model: SimpleNet,
    frames: Frames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pixels: int,
    expected: list[int],
) -> None:
    monkeypatch.setattr(data, "BATCH_PIXELS", pixels)
    done: list[int] = []
    extract_features(
        model,
        frames,
        N_IMAGES,
        tmp_path,
        key="k",
        budget_bytes=2**30,
        seed=0,
        batch_size=3,
        progress=lambda _, images, __: done.append(images),
    )
    assert done == expected


def test_budget_keeps_the_same_share_of_each_image(model: SimpleNet, frames: Frames, tmp_path: Path) -> None:
    whole = extract(model, frames, tmp_path / "whole")
    row_bytes = 2 * model.config.target_embed_dim
    part = extract(model, frames, tmp_path / "part", budget_bytes=row_bytes * 7 * N_IMAGES + row_bytes)
    assert part.rows.shape == (7 * N_IMAGES, model.config.target_embed_dim)
    assert (tmp_path / "part" / "rows.npy").stat().st_size < row_bytes * (7 * N_IMAGES + 1)
    for ours, all_of_image in zip(np.split(part.rows, N_IMAGES), np.split(whole.rows, N_IMAGES), strict=True):
        chosen = {row.tobytes() for row in ours}
        assert len(chosen) == 7
        assert chosen <= {row.tobytes() for row in all_of_image}
    np.testing.assert_array_equal(part.mean, whole.mean)
    np.testing.assert_array_equal(part.std, whole.std)


def test_fewer_frames_than_announced_leave_no_empty_rows(model: SimpleNet, frames: Frames, tmp_path: Path) -> None:
    cache = extract_features(model, frames[:3], N_IMAGES, tmp_path, key="k", budget_bytes=2**30, seed=0)
    patches = model.grid_hw[0] * model.grid_hw[1]
    again = FeatureCache.open(tmp_path, "k")
    assert again is not None
    assert cache.rows.shape == again.rows.shape == (3 * patches, model.config.target_embed_dim)
    np.testing.assert_array_equal(cache.correlation, again.correlation)


def test_batch_reads_rows_as_float32(model: SimpleNet, frames: Frames, tmp_path: Path) -> None:
    cache = extract(model, frames, tmp_path)
    batch = cache.batch(np.array([3, 1, 2]))
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch.numpy(), cache.rows[[1, 2, 3]].astype(np.float32))


@pytest.mark.parametrize("damaged", ["rows.npy", "correlation.npy", "features.json"])
def test_damaged_or_foreign_cache_is_not_opened(model: SimpleNet, frames: Frames, tmp_path: Path, damaged: str) -> None:
    extract(model, frames[:2], tmp_path)
    assert FeatureCache.open(tmp_path, "k") is not None
    assert FeatureCache.open(tmp_path, "another") is None
    (tmp_path / damaged).write_bytes(b"\x93NUMPY")
    assert FeatureCache.open(tmp_path, "k") is None


def test_no_frame_is_an_error(model: SimpleNet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable image"):
        extract_features(model, [], N_IMAGES, tmp_path, key="k", budget_bytes=2**30, seed=0)


def test_features_that_are_not_finite_are_an_error(frames: Frames, tmp_path: Path) -> None:
    broken = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64)).eval()
    with torch.no_grad():
        next(broken.backbone.parameters()).fill_(float("inf"))
    with pytest.raises(DataError, match="not finite"):
        extract(broken, frames, tmp_path)
    assert FeatureCache.open(tmp_path, "k") is None


def test_features_that_are_all_the_same_are_an_error(frames: Frames, tmp_path: Path) -> None:
    dead = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64))
    with torch.no_grad():
        for weights in dead.backbone.parameters():
            weights.zero_()
    with pytest.raises(DataError, match="weights are dead"):
        extract(dead, frames, tmp_path)
