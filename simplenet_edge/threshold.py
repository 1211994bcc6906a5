"""The operating point, from the scores of good calibration images alone. Numpy only.

In: raw image scores, float `(n,)`, larger = more anomalous. Out: a threshold that is exactly one of them, so that the
part it came from passes: a part is NG when `score > threshold`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import OperatingPoint, ScoreStatistics

__all__ = ["conformal_threshold", "guarantee_text", "guarantee_warning", "images_needed", "score_statistics"]


def conformal_threshold(scores: npt.NDArray[np.floating], alpha: float) -> OperatingPoint:
    """The split-conformal threshold: the k-th smallest of n calibration scores, k = ceil((n + 1)(1 - alpha)).

    A new good part, exchangeable with the n calibration parts, scores above it with probability at most `alpha`,
    over the draw of both; ties only lower that (Vovk et al. 2005; Angelopoulos & Bates 2021, section 1).
    Where k > n no finite threshold has the guarantee: the largest score is taken, `guaranteed` is False and
    `guarantee_warning` says how many images are missing.

    Raises ConfigError unless 0 < alpha < 1, DataError for no scores or scores that aren't finite.
    """
    share = _exact_share(alpha)
    ordered = np.sort(_checked(scores))
    n = len(ordered)
    k = math.ceil((n + 1) * (1 - share))
    return OperatingPoint(
        threshold=float(ordered[min(k, n) - 1]), alpha=float(alpha), n_calibration=n, guaranteed=k <= n
    )


def images_needed(alpha: float) -> int:
    """The fewest calibration images with which `alpha` can be guaranteed: ceil(1 / alpha) - 1. Raises ConfigError."""
    return math.ceil(1 / _exact_share(alpha)) - 1


def guarantee_warning(point: OperatingPoint) -> str | None:
    """What to tell the user of an operating point without its guarantee; None where it has one."""
    if point.guaranteed:
        return None
    missing = images_needed(point.alpha) - point.n_calibration
    if missing <= 0:
        return "No guarantee: this threshold was not computed from the scores of good calibration images."
    return (
        f"No guarantee: at most {_percent(point.alpha)} false rejects takes {images_needed(point.alpha)} good "
        f"calibration images, there are {point.n_calibration}. The threshold is their largest score, which is good for "
        f"{_percent(1 / (point.n_calibration + 1))} at best. Add {missing} more good images, or accept more false "
        "rejects."
    )


def guarantee_text(point: OperatingPoint) -> str:
    """The guarantee of an operating point in words, or the warning that there is none."""
    return guarantee_warning(point) or (
        f"At most {_percent(point.alpha)} of good parts are rejected, on average over calibration sets. The threshold "
        f"comes from {point.n_calibration} good images that the model was not trained on; the guarantee holds as long "
        "as the line makes parts like those."
    )


def score_statistics(scores: npt.NDArray[np.floating]) -> ScoreStatistics:
    """What normal scores `(n,)` look like; `std` is the population's (divided by n). Raises DataError."""
    values = _checked(scores)
    return ScoreStatistics(
        n=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        median=float(np.median(values)),
        max=float(values.max()),
    )


def _checked(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The scores in double precision, which holds every float32 exactly."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"expected the scores of at least one good image, found an array of shape {values.shape}")
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise DataError(f"{bad} of {len(values)} calibration scores are not finite; the model is broken: train again")
    return values


def _exact_share(alpha: float) -> Fraction:
    """`alpha` as the decimal number that the user wrote: 0.3 is 3/10, not the binary float just below it."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha, the share of good parts that may be rejected, must be between 0 and 1, not {alpha}")
    return Fraction(repr(float(alpha)))


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
