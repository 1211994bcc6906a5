"""The operating point, from the scores of good calibration images alone. Numpy only.

In: raw image scores, float `(n,)`, larger = more anomalous. Out: a threshold that is exactly one of them, so that the
part it came from passes: a part is NG when `score > threshold`. Several images may show one part: `parts` then says
which, a label for each score, and the guarantee rests on the number of parts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import OperatingPoint, ScoreStatistics

__all__ = [
    "calibration_share",
    "check_threshold",
    "conformal_threshold",
    "false_reject_bound",
    "guarantee_text",
    "guarantee_warning",
    "images_needed",
    "pixel_threshold",
    "rate_bound",
    "score_statistics",
    "threshold_rank",
]

_MAX_IMAGES = 10_000_000
_MAX_SCORE = float(np.finfo(np.float32).max)
_ROUNDING = 1e-6  # of means and deviations, as a share of the largest score
CONFIDENCE = 0.9
"""How sure the bound on the false-reject rate of one given threshold is, unless asked otherwise."""


def conformal_threshold(
    scores: npt.NDArray[np.floating], alpha: float, parts: Sequence[str] | None = None
) -> OperatingPoint:
    """The split-conformal threshold: the k-th smallest of n calibration scores, k = ceil((n + 1)(1 - alpha)).

    A new good part, exchangeable with the n calibration parts, scores above it with probability at most `alpha`,
    over the draw of both; ties only lower that (Vovk et al. 2005; Angelopoulos & Bates 2021, section 1).

    Where some of the images show one part by `parts`, the parts are exchangeable and the images within one, and it is
    hierarchical (Lee, Barber & Willett 2023): of G parts, each counts for 1 / (G + 1), shared by its images, and the
    threshold is the smallest score at or below which 1 - alpha of that lies. An image of a new part is then above it
    with probability at most `alpha`. With one image a part this is the threshold above.

    Where there are too few parts no finite threshold has the guarantee: the largest score is taken, `guaranteed` is
    False and `guarantee_warning` says how many are missing.

    Raises ConfigError unless 0 < alpha < 1, DataError for no scores, scores that aren't finite, or not a part for each.
    """
    values = _checked(scores)
    n = len(values)
    if parts is not None and len(parts) != n:
        raise DataError(f"expected the part of each of {n} images, found {len(parts)}")
    sizes = Counter(range(n) if parts is None else parts)
    n_parts = len(sizes)
    guaranteed = _rank(n_parts, alpha) <= n_parts
    if parts is None or n_parts == n:
        threshold = np.sort(values)[threshold_rank(n, alpha) - 1]
    elif guaranteed:
        threshold = _hierarchical_quantile(values, [sizes[part] for part in parts], n_parts, alpha)
    else:
        threshold = values.max()
    return OperatingPoint(
        threshold=float(threshold),
        alpha=float(alpha),
        n_calibration=n,
        guaranteed=guaranteed,
        n_parts=None if n_parts == n else n_parts,
    )


def pixel_threshold(map_maxima: npt.NDArray[np.floating], alpha: float, parts: Sequence[str] | None = None) -> float:
    """The threshold that marks defective pixels, from the largest map value of each good calibration image `(n,)`.

    A new good part has any pixel above it with probability at most `alpha`: `conformal_threshold` on the maxima, with
    the same guarantee, and without one for as few parts. Raises like it.
    """
    return conformal_threshold(map_maxima, alpha, parts).threshold


def images_needed(alpha: float) -> int:
    """The fewest calibration images, each of another part, with which `alpha` can be guaranteed: ceil(1 / alpha) - 1.

    Raises ConfigError.
    """
    return math.ceil(1 / _exact_share(alpha)) - 1


def calibration_share(n_good: int, alpha: float, usual: float = 0.2, at_most: float = 0.5) -> float:
    """The share of `n_good` parts to calibrate on: `usual`, or what `alpha` takes where that is more.

    Few images are the case for cross-conformal prediction, but its guarantee belongs to the vote of all K models of
    the folds (Vovk 2015; Barber et al. 2021 give 2 alpha), and one model is deployed. Giving calibration more images is
    sound: the share depends on counts only, never on scores. Where even `at_most` isn't enough, `usual` stays:
    the parts would be lost to training and win no guarantee. Raises ConfigError for an alpha outside (0, 1).
    """
    needed = images_needed(alpha)
    if needed <= round(n_good * usual) or needed > n_good * at_most:
        return usual
    return needed / n_good


def false_reject_bound(point: OperatingPoint, confidence: float = CONFIDENCE) -> float:
    """What the false-reject rate of this very threshold stays under, with `confidence` over the calibration set.

    `alpha` holds on average over calibration sets; a given one may be unlucky. The rate behind the k-th smallest of n
    scores follows Beta(n + 1 - k, k) at worst (Vovk 2012), and this is that distribution's quantile. It holds for any
    number of images, also for those too few for `alpha`. Of several pictures of a part it assumes the worst, that they
    are all alike: each part counts as one.
    """
    n = point.n_parts or point.n_calibration
    return rate_bound(n, n - threshold_rank(n, point.alpha), confidence)


def threshold_rank(n: int, alpha: float) -> int:
    """Which of n ordered calibration scores is the threshold, from 1; n where none of them is high enough."""
    return min(_rank(n, alpha), n)


def rate_bound(n: int, at_most: int, confidence: float) -> float:
    """The largest rate at which n draws still have `at_most` hits with probability `1 - confidence` (Clopper-Pearson).

    The rate beyond an order statistic that leaves `at_most` of n values beyond it stays under this, with `confidence`.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if _binomial_tail(n, at_most, rate) > 1 - confidence else (low, rate)
    return high


def guarantee_warning(point: OperatingPoint) -> str | None:
    """What to tell the user of an operating point without its guarantee; None where it has one."""
    if point.guaranteed:
        return None
    n = point.n_parts or point.n_calibration
    missing = images_needed(point.alpha) - n
    if missing <= 0 and point.folds is not None:
        return (
            f"No guarantee for this very model: parts were few, so each of the {n} was judged by one of {point.folds} "
            f"models that had not seen it. About {_percent(point.alpha)} false rejects are to be expected; a vote of "
            f"those models would have at most {_percent(2 * point.alpha)}."
        )
    if missing <= 0:
        return "No guarantee: this threshold was not computed from the scores of good calibration images."
    many = "images"
    there = f"there are {n}"
    if point.n_parts is not None:
        many, there = "parts", f"there are {n}, in {point.n_calibration} images"
    return (
        f"No guarantee: at most {_percent(point.alpha)} false rejects takes {images_needed(point.alpha)} good "
        f"calibration {many}, {there}. The threshold is their largest score, which is good for "
        f"{_percent(1 / (n + 1))} on average at best, and {_bound_text(point)}. Add {missing} more "
        f"good {many}, or accept more false rejects."
    )


def guarantee_text(point: OperatingPoint) -> str:
    """The guarantee of an operating point in words, or the warning that there is none."""
    source = f"{point.n_calibration} good images"
    if point.n_parts is not None:
        source = f"{point.n_calibration} pictures of {point.n_parts} parts"
    return guarantee_warning(point) or (
        f"At most {_percent(point.alpha)} of good parts are rejected, on average over calibration sets; for this set, "
        f"{_bound_text(point)}. The threshold comes from {source} that the model was not "
        "trained on; the guarantee holds as long as the line makes parts like those."
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


def check_threshold(point: OperatingPoint, statistics: ScoreStatistics) -> None:
    """Hold an operating point against the statistics of the scores that it came from, as far as those tell.

    They tell the smallest, the middle and the largest score: a threshold of that rank is that score, and any other lies
    between two of them; with several images a part only that it lies between the ends. A point that is not guaranteed
    although there were parts enough was set by a person: it may lie anywhere. Raises ConfigError.
    """
    n, low, middle, high = statistics.n, statistics.min, statistics.median, statistics.max
    numbers = (point.threshold, point.pixel_threshold or 0.0, low, middle, high, statistics.mean, statistics.std)
    if not (1 <= n <= _MAX_IMAGES and n == point.n_calibration and all(abs(value) <= _MAX_SCORE for value in numbers)):
        raise ConfigError(
            f"expected 1 to {_MAX_IMAGES} calibration images and finite scores, found {point} and {statistics}"
        )
    n_parts = n if point.n_parts is None else point.n_parts
    if not 1 <= n_parts <= n:
        raise ConfigError(f"expected {n} calibration images to show 1 to {n} parts, found {n_parts}")
    room = _ROUNDING * max(abs(low), abs(high))
    spread = (high - low) / 2 + room
    if not (low <= middle <= high and low - room <= statistics.mean <= high + room and 0 <= statistics.std <= spread):
        raise ConfigError(f"no scores have these statistics: {statistics}")
    rank = _rank(n_parts, point.alpha)
    if point.guaranteed and rank > n_parts:
        raise ConfigError(f"{n} calibration images of {n_parts} parts can't guarantee an alpha of {point.alpha}")
    if point.folds is not None and (point.guaranteed or not 2 <= point.folds <= n_parts):
        raise ConfigError(f"scores of {point.folds} models and {n_parts} parts guarantee nothing of another model")
    if not point.guaranteed and rank <= n_parts:
        return
    if point.guaranteed and n_parts < n:
        least, most, expected = low, high, "one"
    else:
        k = n if rank > n_parts else rank
        least = high if k == n else middle if 2 * k > n else low
        most = low if k == 1 else middle if 2 * k <= n + 1 else high
        expected = f"number {k}"
    if not least <= point.threshold <= most:
        raise ConfigError(
            f"the threshold {point.threshold} is not {expected} of {n} scores from {low} to {high} with {middle} in "
            "the middle"
        )


def _hierarchical_quantile(values: npt.NDArray[np.float64], sizes: Sequence[int], n_parts: int, alpha: float) -> float:
    """The smallest of the values at or below which 1 - alpha of the weight lies, exactly; `sizes` are those of their
    parts, of which each weighs 1 / (n_parts + 1).
    """
    unit = math.lcm(*set(sizes))
    needed = (n_parts + 1) * (1 - _exact_share(alpha)) * unit
    weight = 0
    for i in np.argsort(values):
        weight += unit // sizes[i]
        if weight >= needed:
            break
    return float(values[i])


def _checked(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The scores in double precision, which holds every float32 exactly."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"expected the scores of at least one good image, found an array of shape {values.shape}")
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise DataError(f"{bad} of {len(values)} calibration scores are not finite; the model is broken: train again")
    return values


def _bound_text(point: OperatingPoint) -> str:
    return f"at most {_percent(false_reject_bound(point))} with {CONFIDENCE:.0%} confidence"


def _rank(n: int, alpha: float) -> int:
    """Which of n ordered calibration scores is the threshold, from 1; n + 1 where none of them is high enough."""
    return math.ceil((n + 1) * (1 - _exact_share(alpha)))


def _binomial_tail(n: int, at_most: int, rate: float) -> float:
    """The probability of at most k hits in n draws; by logarithms, since the coefficients outgrow a float.

    Terms further than `reach` from the largest add less than a float holds.
    """
    if rate in (0, 1):
        return float(rate == 0 or at_most == n)
    reach = math.ceil(12 * math.sqrt(n * rate * (1 - rate))) + 100
    middle = math.floor(n * rate)
    logs = [
        math.lgamma(n + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n - i + 1)
        + i * math.log(rate)
        + (n - i) * math.log1p(-rate)
        for i in range(max(0, min(at_most, middle) - reach), min(at_most, middle + reach) + 1)
    ]
    return math.fsum(math.exp(value) for value in logs)


def _exact_share(alpha: float) -> Fraction:
    """`alpha` as the decimal number that the user wrote: 0.3 is 3/10, not the binary float just below it."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha, the share of good parts that may be rejected, must be between 0 and 1, not {alpha}")
    return Fraction(repr(float(alpha)))


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
