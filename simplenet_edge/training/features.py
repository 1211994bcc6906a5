"""The embedding rows of all training patches, computed once: a half-precision memory map and its statistics.

The backbone is frozen, so training reads every image once. On disk: `rows.npy`, float16 `(n_images * patches, D)`, and
`correlation.npy`, float64 `(D, D)`, plain NumPy, and `features.json`, which says what they were made from.

Memory doesn't grow with the number of images: one batch of frames, its features, two `(D, D)` matrices and one batch of
rows. 10,000 images of 288x288 through WideResNet50-2 (layer2 and layer3, D = 1536) have 36 * 36 = 1296 patches each:
10,000 * 1296 * 1536 * 2 bytes = 39.8 GB of rows. A budget of 8 GiB on disk keeps 279 patches an image, 2.8 million rows
or 8.57 GB; the two matrices need 2 * 1536**2 * 8 bytes = 38 MB, the embedding of 8 images 8 * 1296 * 1536 * 4 bytes =
64 MB, and its unpooled patches about ten times that. Larger frames come in smaller batches, down to one at a time. The
kernel may keep the map's pages cached as long as nobody else wants the memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from simplenet_edge.bundle_files import npy_bytes
from simplenet_edge.data.reading import batched, fitting_batch
from simplenet_edge.errors import DataError
from simplenet_edge.files import write_bytes
from simplenet_edge.model.embedder import FrameEmbedder
from simplenet_edge.model.quantization import is_int8
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import Frames

__all__ = ["FeatureCache", "Moments", "extract_features", "whitening"]

ROWS_NAME = "rows.npy"
CORRELATION_NAME = "correlation.npy"
INDEX_NAME = "features.json"
CORRELATION_ROWS = 200_000
"""About how many rows the correlation comes from: 130 for each of 1536 channels, and a minute of float64 at most."""
_ROWS_AT_ONCE = 65_536
_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class FeatureCache:
    """Embedding rows float16 `(N, D)`, memory-mapped, with float64 statistics of the channels.

    `mean` and `std` `(D,)` come from all patches, `correlation` `(D, D)` from about `CORRELATION_ROWS` of them.
    `corrupt` names the files that were left out, with the reason.
    """

    rows: npt.NDArray[np.float16]
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    correlation: npt.NDArray[np.float64]
    n_images: int
    corrupt: tuple[str, ...] = ()

    def batch(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        """The rows of those indices, in the order of the cache, as float32 `(len(indices), D)`."""
        return torch.from_numpy(self.rows[np.sort(indices)].astype(np.float32))

    def of_frames(self, wanted: npt.NDArray[np.bool_]) -> FeatureCache:
        """The cache that some of the frames would have given, in memory; `wanted` `(n_images,)` says which."""
        rows = self.rows.reshape(len(wanted), -1, self.rows.shape[1])[wanted]
        flat = rows.reshape(-1, rows.shape[2])
        moments = Moments(flat.shape[1], full=True)
        for start in range(0, len(flat), _ROWS_AT_ONCE):
            moments.add(flat[start : start + _ROWS_AT_ONCE])
        std = _floored(np.sqrt(np.diagonal(moments.covariance)))
        return FeatureCache(flat, moments.mean, std, _correlation(moments.covariance), len(rows))

    @classmethod
    def open(cls, folder: Path, key: str) -> FeatureCache | None:
        """The cache in `folder` when it is whole and was made for `key`, otherwise None."""
        try:
            index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
            if index["key"] != key:
                return None
            rows = np.load(folder / ROWS_NAME, mmap_mode="r", allow_pickle=False)
            correlation = np.load(folder / CORRELATION_NAME, allow_pickle=False)
            rows = rows[: index["n_rows"]]
            return cls(
                rows,
                np.array(index["mean"]),
                np.array(index["std"]),
                correlation,
                index["n_images"],
                tuple(index["corrupt"]),
            )
        except Exception:  # a damaged header of an array raises nearly anything
            return None


class Moments:
    """Running mean and covariance in float64 (Chan et al. 1979), whatever the batches; rows are `(N, D)`.

    With `full` False only the diagonal of the covariance is kept.
    """

    def __init__(self, dim: int, *, full: bool) -> None:
        self.n = 0
        self.mean = np.zeros(dim)
        self._full = full
        self._m2 = np.zeros((dim, dim) if full else dim)

    def add(self, rows: npt.NDArray[np.floating[Any]]) -> None:
        """Take in more rows."""
        n, values = len(rows), rows.astype(np.float64)
        mean = values.mean(axis=0)
        delta, total = mean - self.mean, self.n + n
        values -= mean
        if self._full:
            self._m2 += values.T @ values + np.outer(delta, delta) * (self.n * n / total)
        else:
            self._m2 += (values**2).sum(axis=0) + delta**2 * (self.n * n / total)
        self.mean += delta * (n / total)
        self.n = total

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """Of the rows so far: `(D, D)`, or its diagonal `(D,)`. Divided by their number, as NumPy's `std` is."""
        return self._m2 / self.n


def whitening(correlation: npt.NDArray[np.float64], shrinkage: float) -> npt.NDArray[np.float64]:
    """The symmetric matrix `(D, D)` that makes standardised rows uncorrelated: `(correlation + shrinkage I)**-0.5`.

    Among all whitenings this one keeps each channel closest to itself (ZCA; Kessy et al. 2018). `shrinkage`, in units
    of a channel's variance, limits what directions of almost no variance are blown up by: to `shrinkage**-0.5`.
    """
    eigenvalues, vectors = np.linalg.eigh(correlation)
    return np.asarray((vectors / np.sqrt(np.maximum(eigenvalues, 0) + shrinkage)) @ vectors.T)


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
    embedder: FrameEmbedder | None = None,
    progress: Progress = ignore,
    corrupt: Callable[[], Sequence[str]] = tuple,
) -> FeatureCache:
    """Embed at most `n_images` frames uint8 `(H, W, 3)` and write the cache into `folder`.

    Where all patches would need more than `budget_bytes` on disk, each image keeps an equal random subset of its
    patches; mean and standard deviation always come from all. At most `batch_size` frames go through the backbone at
    once, fewer where they are large (`fitting_batch`); on a GPU in mixed precision (float16), on a CPU in float32.
    `embedder` is the model's, where there is one already. `progress` counts the images; `corrupt` is asked at the end
    which files were left out.

    Raises DataError where the disk has no room for the cache, where no frame comes or where features are not finite
    or all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dim, patches = model.config.target_embed_dim, model.grid_hw[0] * model.grid_hw[1]
    kept = max(1, min(patches, budget_bytes // (2 * dim * n_images)))
    correlated = min(patches, -(-CORRELATION_ROWS // n_images))
    rng, done = np.random.default_rng(seed), 0
    moments, joint = Moments(dim, full=False), Moments(dim, full=True)
    path = folder / ROWS_NAME
    (folder / INDEX_NAME).unlink(missing_ok=True)
    rows, embedder = _reserved(path, (n_images * kept, dim)), embedder or FrameEmbedder(model, n_images)
    for batch in batched(frames, fitting_batch(batch_size, model.input_spec.size_hw)):
        embedding = _embedded(model, embedder, np.stack(batch))
        moments.add(embedding)
        joint.add(embedding[rng.permutation(len(embedding))[: len(batch) * correlated]])
        for image_rows in embedding.reshape(len(batch), patches, dim):
            chosen = image_rows if kept == patches else image_rows[rng.permutation(patches)[:kept]]
            rows[done * kept : (done + 1) * kept] = np.clip(chosen, -_HALF_MAX, _HALF_MAX)
            done += 1
        progress("features", done, n_images)
    if done == 0:
        raise DataError("no readable image among the training images; nothing was trained")
    if not moments.covariance.any():
        raise DataError(
            "the backbone gives the same features for every patch, from which nothing can be learned: its weights are "
            "dead; take other weights"
        )
    rows.flush()
    del rows
    std = _floored(np.sqrt(moments.covariance))
    correlation = _correlation(joint.covariance)
    left_out = tuple(corrupt())
    index = {
        "key": key,
        "n_images": done,
        "n_rows": done * kept,
        "mean": moments.mean.tolist(),
        "std": std.tolist(),
        "corrupt": left_out,
    }
    try:
        write_bytes(folder / CORRELATION_NAME, npy_bytes(correlation))
        write_bytes(folder / INDEX_NAME, json.dumps(index).encode())  # last: it marks the cache as whole
    except OSError:
        path.unlink()  # of no use alone
        raise
    whole = np.load(path, mmap_mode="r", allow_pickle=False)
    return FeatureCache(whole[: done * kept], moments.mean, std, correlation, done, left_out)


def _reserved(path: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float16]]:
    """A memory-mapped array whose room on disk is taken: writing to a map on a full disk ends the process."""
    size = 2 * shape[0] * shape[1]
    try:
        rows: np.memmap[Any, np.dtype[np.float16]] = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float16, shape=shape
        )
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DataError(
            f"the features need {size / 2**20:.0f} MiB of disk beside the model, {path.parent} can't have them "
            f"({error.strerror or error}); free some space, or name a folder on another disk"
        ) from error
    return rows


@torch.inference_mode()
def _embedded(model: SimpleNet, embedder: FrameEmbedder, frames: Frames) -> npt.NDArray[np.float32]:
    """Frames uint8 `(B, H, W, 3)` as embedding rows float32 `(B*h*w, D)`. Raises DataError."""
    # what is rounded already should not be twice
    half = embedder.device.type == "cuda" and not is_int8(model.backbone.body)
    with torch.autocast("cuda", dtype=torch.float16, enabled=half):
        embedding = embedder(frames)
    if not torch.isfinite(embedding).all():
        raise DataError(
            "the backbone gave features that are not finite: its weights are broken, or too large for a GPU's half "
            "precision; take other weights, or train with --device cpu"
        )
    return embedding.float().cpu().numpy()


def _floored(std: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A constant channel carries nothing; dividing by its rounding errors must not blow it up."""
    return np.maximum(std, 1e-6 * max(float(std.max()), 1e-6))


def _correlation(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    std = _floored(np.sqrt(np.diagonal(covariance)))
    return np.asarray(covariance / np.outer(std, std))
