"""Latencies as figures that can be trusted: intervals that know that neighbouring calls are alike.

In: wall times of calls in milliseconds, float `(n,)`, in the order in which they were made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Latency", "mean_interval", "ratio_of_medians", "summarise", "thinned"]

Samples = npt.NDArray[np.float64]
Interval = tuple[float, float]

_CONFIDENCE = 0.95
_BATCHES = (5, 10, 20)
_BLOCKS = (6, 20)
_RESAMPLES = 1000


@dataclass(frozen=True)
class Latency:
    """Wall time of a call in milliseconds; `cv` is the standard deviation over the mean.

    `mean_ci_ms` is the mean's 95 % confidence interval, for the machine as it was meanwhile.
    """

    calls: int
    mean_ms: float
    mean_ci_ms: Interval
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    cv: float


def summarise(calls_ms: Samples) -> Latency:
    """The figures of at least two calls."""
    p50, p90, p95, p99 = np.percentile(calls_ms, (50, 90, 95, 99)).tolist()
    mean = float(calls_ms.mean())
    return Latency(
        calls=len(calls_ms),
        mean_ms=mean,
        mean_ci_ms=mean_interval(calls_ms),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=float(calls_ms.max()),
        cv=float(calls_ms.std() / mean) if mean else 0.0,
    )


def mean_interval(calls_ms: Samples) -> Interval:
    """The mean's 95 % confidence interval by batch means (Law & Kelton): of 5, 10 and 20 batches, the widest.

    A batch is a stretch of consecutive calls. Few long batches see slow changes of the machine, many short ones have
    more of the t distribution's degrees of freedom.
    """
    mean = float(calls_ms.mean())
    half = 0.0
    for count in _BATCHES:
        count = min(count, len(calls_ms))
        means = np.array([part.mean() for part in np.array_split(calls_ms, count)])
        half = max(half, _t_quantile(count - 1) * float(means.std(ddof=1)) / math.sqrt(count))
    return mean - half, mean + half


def ratio_of_medians(before_ms: Samples, after_ms: Samples) -> tuple[float, Interval]:
    """The median of `after_ms` over that of `before_ms`, and its 95 % interval by a block bootstrap.

    Whole stretches are drawn (Künsch 1989), so that what lasts for a while stays together: of 1/6 and of 1/20 of the
    calls, and the wider interval is taken.
    """
    rng = np.random.default_rng(0)
    ends: list[float] = []
    for blocks in _BLOCKS:
        after, before = (_resampled_medians(calls_ms, blocks, rng) for calls_ms in (after_ms, before_ms))
        tail = 50 * (1 - _CONFIDENCE)
        ends += np.percentile(after / before, (tail, 100 - tail)).tolist()
    return float(np.median(after_ms) / np.median(before_ms)), (min(ends), max(ends))


def thinned(calls_ms: Samples, at_most: int) -> Samples:
    """Evenly many of the calls, in order."""
    if len(calls_ms) <= at_most:
        return calls_ms
    return np.asarray(calls_ms[np.linspace(0, len(calls_ms) - 1, at_most).round().astype(np.int64)])


def _resampled_medians(calls_ms: Samples, blocks: int, rng: np.random.Generator) -> Samples:
    length = max(1, len(calls_ms) // blocks)
    count = -(-len(calls_ms) // length)
    starts = rng.integers(0, len(calls_ms), (_RESAMPLES, count, 1))
    taken = (starts + np.arange(length)) % len(calls_ms)  # blocks go round the end: every call counts the same
    return np.asarray(np.median(calls_ms[taken.reshape(_RESAMPLES, -1)[:, : len(calls_ms)]], axis=1))


def _t_quantile(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t (Abramowitz & Stegun 26.7.5); within 2 % from 3 degrees on."""
    if freedom < 3:
        return {1: 12.706, 2: 4.303}[freedom]
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
