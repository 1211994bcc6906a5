"""The embedding rows of all training patches, computed once: a half-precision memory map and its statistics.

The backbone is frozen, so training reads every image once. On disk: `rows.npy`, float16 `(n_images * patches, D)`,
plain NumPy, and `features.json`, which says what it was made from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simplenet_edge.atomic import write_bytes_atomic
from simplenet_edge.errors import DataError
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames

__all__ = ["FeatureCache", "extract_features"]

ROWS_NAME = "rows.npy"
INDEX_NAME = "features.json"
_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class FeatureCache:
    """Embedding rows float16 `(N, D)`, memory-mapped, with the mean and standard deviation of each channel, float64."""

    rows: npt.NDArray[np.float16]
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    n_images: int

    def batch(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """The rows of those indices as float32 `(len(indices), D)`."""
        return torch.from_numpy(self.rows[np.sort(indices)].astype(np.float32))

    @classmethod
    def open(cls, folder: Path, key: str) -> FeatureCache | None:
        """The cache in `folder` when it is whole and was made for `key`, otherwise None."""
        try:
            index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
            if index["key"] != key:
                return None
            rows = np.load(folder / ROWS_NAME, mmap_mode="r", allow_pickle=False)
            return cls(rows, np.array(index["mean"]), np.array(index["std"]), index["n_images"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class _Moments:
    """Running mean and variance of each channel in float64 (Chan et al. 1979), whatever the batches."""

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.mean = np.zeros(dim)
        self.m2 = np.zeros(dim)

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        n, values = len(rows), rows.astype(np.float64)
        mean = values.mean(axis=0)
        delta, total = mean - self.mean, self.n + n
        self.m2 += ((values - mean) ** 2).sum(axis=0) + delta**2 * self.n * n / total
        self.mean += delta * n / total
        self.n = total


def extract_features(
    model: SimpleNet,
    frames: Iterable[Frames],
    n_images: int,
    folder: Path,
    *,
    key: str,
    budget_bytes: int,
    seed: int,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> FeatureCache:
    """Embed at most `n_images` frames uint8 `(H, W, 3)` and write the cache into `folder`.

    Where all patches would need more than `budget_bytes` on disk, each image keeps an equal random subset of its
    patches; the statistics always come from all. Memory stays at one batch. `progress` is told how many images are
    done.
    Raises DataError where no frame comes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dim, patches = model.config.target_embed_dim, model.grid_hw[0] * model.grid_hw[1]
    kept = max(1, min(patches, budget_bytes // (2 * dim * n_images)))
    rng, moments, done = np.random.default_rng(seed), _Moments(dim), 0
    path = folder / ROWS_NAME
    (folder / INDEX_NAME).unlink(missing_ok=True)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n_images * kept, dim))
    for batch in _batches(frames, batch_size):
        with torch.inference_mode():
            stacked = torch.from_numpy(np.stack(batch)).to(model.pixel_mean.device)
            embedding = model.embed(model.normalize(stacked)).cpu().numpy()
        moments.add(embedding)
        for image_rows in embedding.reshape(len(batch), patches, dim):
            chosen = image_rows if kept == patches else image_rows[rng.permutation(patches)[:kept]]
            rows[done * kept : (done + 1) * kept] = np.clip(chosen, -_HALF_MAX, _HALF_MAX)
            done += 1
        if progress is not None:
            progress(done)
    if done == 0:
        raise DataError("no readable image among the training images; nothing was trained")
    rows.flush()
    del rows
    std = np.sqrt(moments.m2 / moments.n)
    std = np.maximum(std, 1e-6 * max(float(std.max()), 1e-6))  # a constant channel carries nothing; don't blow it up
    _write_index(folder, {"key": key, "n_images": done, "mean": moments.mean.tolist(), "std": std.tolist()})
    whole = np.load(path, mmap_mode="r", allow_pickle=False)
    return FeatureCache(whole[: done * kept], moments.mean, std, done)


def _batches(frames: Iterable[Frames], size: int) -> Iterable[list[Frames]]:
    batch: list[Frames] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    write_bytes_atomic(folder / INDEX_NAME, json.dumps(index).encode())
