"""How far two predictions of the same frames are apart: one rule for export, verify and every engine.

Differences are shares of the scale: the distance between the smallest and the largest value of the reference maps,
which an offset in the scores does not change. Scores are `(B,)`, maps `(B, H, W)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from simplenet_edge.spec import Prediction

__all__ = [
    "FP32_TOLERANCE",
    "INT8_TOLERANCE",
    "Comparison",
    "Differences",
    "Flips",
    "compare",
    "map_scale",
    "verdict_flips",
]

FP32_TOLERANCE = 1e-4
"""Largest difference, as a share of the scale, that the order of FP32 additions explains."""

INT8_TOLERANCE = 0.03
"""The same of INT8: a value halfway between two steps falls to either side, and layers behind it see a whole step."""

Scores: TypeAlias = "npt.NDArray[np.floating[Any]]"  # as text: numpy 1.21 can't evaluate it


@dataclass(frozen=True)
class Comparison:
    """One way to compute a prediction against another; differences are shares of the scale."""

    score_max: float
    score_mean: float
    map_max: float
    map_mean: float
    verdict_flips: int
    n_frames: int

    @property
    def worst(self) -> float:
        """The largest difference of any score or pixel."""
        return float(np.maximum(self.score_max, self.map_max))


class Flips(NamedTuple):
    """Which verdicts differ, bool `(B,)`: those that count, and those too near the threshold for rounding to decide."""

    decided: npt.NDArray[np.bool_]
    borderline: npt.NDArray[np.bool_]


class Differences:
    """Adds up how far predictions are from their reference, batch by batch; asked for once at least one was added.

    A number that is not finite makes every figure NaN or infinite: it is never lost in a maximum.
    """

    def __init__(self) -> None:
        self.n_frames = 0
        self._low, self._high = np.inf, -np.inf
        self._max = {"score": 0.0, "map": 0.0}
        self._sum = {"score": 0.0, "map": 0.0}

    def add(self, found: Prediction, expected: Prediction) -> None:
        """Take in a batch."""
        self.n_frames += len(expected.score)
        self._low = float(np.minimum(self._low, expected.map.min()))
        self._high = float(np.maximum(self._high, expected.map.max()))
        for name, a, b in (("score", found.score, expected.score), ("map", found.map, expected.map)):
            difference = np.abs(a.astype(np.float64) - b)
            self._max[name] = float(np.maximum(self._max[name], difference.max()))
            self._sum[name] += float(difference.reshape(len(difference), -1).mean(axis=1).sum())

    @property
    def scale(self) -> float:
        """The range of the reference maps; of flat ones the magnitude, or 1 where that is 0 too."""
        return _scale(self._low, self._high)

    @property
    def score_max(self) -> float:
        """The largest difference of a score."""
        return self._max["score"] / self.scale

    @property
    def score_mean(self) -> float:
        """The mean difference of the scores."""
        return self._sum["score"] / self.n_frames / self.scale

    @property
    def map_max(self) -> float:
        """The largest difference of a pixel."""
        return self._max["map"] / self.scale

    @property
    def map_mean(self) -> float:
        """The mean difference of the pixels."""
        return self._sum["map"] / self.n_frames / self.scale


def compare(found: Prediction, expected: Prediction, threshold: float, tolerance: float = FP32_TOLERANCE) -> Comparison:
    """Differences of scores and maps, and the frames whose verdict differs at `threshold`.

    A frame whose reference score equals the threshold within the tolerance can't flip: rounding decides there.
    """
    apart = Differences()
    apart.add(found, expected)
    flips = verdict_flips(found.score, expected.score, (threshold, threshold), tolerance * apart.scale)
    return Comparison(
        score_max=apart.score_max,
        score_mean=apart.score_mean,
        map_max=apart.map_max,
        map_mean=apart.map_mean,
        verdict_flips=int(flips.decided.sum()),
        n_frames=apart.n_frames,
    )


def verdict_flips(found: Scores, expected: Scores, thresholds: tuple[float, float], room: float) -> Flips:
    """Frames that are NG for one and OK for the other; `thresholds` are that of `found` and that of `expected`.

    Where the expected score is within `room` of its threshold, in raw score units, a flip is borderline.
    """
    found, expected = found.astype(np.float64), expected.astype(np.float64)  # as thresholds are
    flipped = (found > thresholds[0]) != (expected > thresholds[1])
    near = np.abs(expected - thresholds[1]) <= room
    return Flips(flipped & ~near, flipped & near)


def map_scale(reference: Prediction) -> float:
    """The scale of a reference prediction: see `Differences.scale`."""
    return _scale(float(reference.map.min()), float(reference.map.max()))


def _scale(low: float, high: float) -> float:
    return (high - low) or max(abs(low), abs(high)) or 1.0
