"""Fills a model's memory from the cached training features: the coreset, and the weight of its distance.

The patches are chosen by k-center greedy (Gonzalez 1985; the coreset of PatchCore): each next one is
the patch farthest from those chosen so far, so that a rare patch gets its place as surely as a common one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simplenet_edge.model.int8 import rounded_map
from simplenet_edge.model.quantization import ROOM, step_to
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.training.features import FeatureCache

__all__ = ["build_memory", "calibrate_memory_weight", "k_center_greedy"]

POOL_ROWS = 200_000
"""The most rows that remembered patches are chosen from: 102 MB of 128 components."""
OTHER_ROWS = 20_000
_CHOOSING_COMPONENTS = 64  # the leading ones hold most of a distance; more take much longer to read
_LEAST_POINTS = 100
_FLOOR_SHARE = 0.5  # of the mean distance of good patches that are not remembered
_REPORT_EVERY = 200
_CHUNK = 8192  # rows read at once
_BLOCK = 4096  # rows measured at once


def build_memory(
    model: SimpleNet,
    cache: FeatureCache,
    seed: int,
    *,
    limit_s: float | None = None,
    progress: Progress = ignore,
) -> None:
    """Fill the memory with patches of the cache. The model must have its statistics already (`set_statistics`).

    It holds fewer than its configuration says where there are fewer to choose from, or where `limit_s` seconds are over
    before all are chosen. `progress` counts them.
    """
    memory = model.memory
    if memory is None:
        return
    end = math.inf if limit_s is None else time.perf_counter() + limit_s
    components = torch.from_numpy(_principal_components(cache.correlation, len(memory.components)))
    memory.components.copy_(components if memory.quantizer is None else rounded_map(model, components))
    pool, _ = _pool_and_others(model, cache, seed)
    rows = torch.cat([standardized @ memory.components.T for standardized in _standardized(model, cache, pool)])
    if memory.quantizer is not None:
        memory.quantizer.scale.copy_(step_to(ROOM * rows.abs().amax()))
        rows = memory.quantizer(rows)
    leading, rng = rows[:, :_CHOOSING_COMPONENTS].contiguous(), np.random.default_rng(seed)
    memory.patches = rows[k_center_greedy(leading, model.config.memory_size, rng, end=end, progress=progress)]


@torch.no_grad()
def calibrate_memory_weight(model: SimpleNet, cache: FeatureCache, weight: float, seed: int) -> None:
    """Put the discriminator's score and the distance into one unit, the spread of each over good patches.

    `weight` says how often the distance counts. The patches it is measured on are training patches that could not be
    remembered. The model must be in evaluation mode.
    """
    memory = model.memory
    if memory is None:
        return
    memory.floor.zero_()
    scores, distances = [], []
    _, others = _pool_and_others(model, cache, seed)
    for standardized in _standardized(model, cache, others):
        scores.append(-model.discriminator(model.pre_projection(standardized))[:, 0])
        distances.append(memory.distances(standardized))
    (score_mean, score_spread), (distance_mean, distance_spread) = (
        _mean_and_spread(torch.cat(values)) for values in (scores, distances)
    )
    memory.floor.copy_(_FLOOR_SHARE * distance_mean)
    memory.score_scale.copy_(1 / score_spread)
    memory.distance_scale.copy_(weight / distance_spread)
    memory.shift.copy_(-score_mean / score_spread - weight * distance_mean / distance_spread)


def k_center_greedy(
    rows: Tensor,
    count: int,
    rng: np.random.Generator,
    *,
    end: float = math.inf,
    progress: Progress = ignore,
) -> Tensor:
    """Indices of at most `count` of the rows `(N, d)`, each the farthest from those before; the first is random.

    Fewer where the time `end` of `time.perf_counter` passes, but a hundred in any case.

    Distances only fall, so what a block of rows had as its largest bounds what it has now. A block is measured against
    the points chosen since then, in one product, only where that bound is the largest of all.
    """
    squares = rows.square().sum(dim=1)
    distances = torch.full_like(squares, float("inf"))
    total = min(count, len(rows))
    chosen = torch.empty(total, dtype=torch.int64, device=rows.device)
    chosen[0] = int(rng.integers(len(rows)))
    starts = range(0, len(rows), _BLOCK)
    bounds = np.full(len(starts), np.inf)  # the largest distance of each block when it was measured last
    places, measured = [0] * len(starts), [0] * len(starts)  # where that was, and against how many points
    done = 1
    while done < total and (done < _LEAST_POINTS or time.perf_counter() < end):
        while measured[block := int(bounds.argmax())] < done:
            within = slice(starts[block], starts[block] + _BLOCK)
            new = chosen[measured[block] : done]
            to_new = torch.addmm(squares[new], rows[within], rows[new].T, alpha=-2).amin(dim=1) + squares[within]
            distances[within] = torch.minimum(distances[within], to_new)
            distances[new[(new >= within.start) & (new < within.stop)]] = -1  # rounding must not choose it again
            largest, place = distances[within].max(dim=0)
            bounds[block], places[block], measured[block] = float(largest), within.start + int(place), done
        chosen[done] = places[block]
        done += 1
        if done % _REPORT_EVERY == 0 or done == total:
            progress("memory", done, total)
    return chosen[:done]


def _mean_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation; patches that hardly differ spread by a hundredth of their mean."""
    mean = values.mean()
    return mean, torch.maximum(values.std(correction=0), (0.01 * mean.abs()).clamp(min=1e-6))


def _principal_components(correlation: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """The directions of largest variance of standardised rows, `(count, D)`."""
    _, vectors = np.linalg.eigh(correlation)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T)


def _pool_and_others(
    model: SimpleNet, cache: FeatureCache, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the rows that may be remembered, and of some that may not, both sorted.

    Where the cache holds whole images, the first are the patches that the memory will be asked about, those of its own
    grid; otherwise, and where that grid is all of them, any half.
    """
    assert model.memory is not None
    rng, total = np.random.default_rng((seed, len(cache.rows))), len(cache.rows)
    height, width = model.grid_hw
    eligible = np.zeros(total, bool)
    stride = model.memory.stride
    if total == cache.n_images * height * width and min(height * width, stride) > 1:
        eligible.reshape(-1, height, width)[:, ::stride, ::stride] = True
    else:
        eligible[rng.permutation(total)[: (total + 1) // 2]] = True
    pool, others = np.flatnonzero(eligible), np.flatnonzero(~eligible)
    if len(others) == 0:  # a single row
        others = pool
    return (np.sort(rng.permutation(pool)[:POOL_ROWS]), np.sort(rng.permutation(others)[:OTHER_ROWS]))


def _standardized(model: SimpleNet, cache: FeatureCache, indices: npt.NDArray[np.int64]) -> Iterator[Tensor]:
    for start in range(0, len(indices), _CHUNK):
        yield model.standardizer(cache.batch(indices[start : start + _CHUNK]).to(model.pixel_mean.device))
