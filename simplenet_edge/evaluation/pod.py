"""Probability of detection against size, from hits and misses, as in MIL-HDBK-1823A: numpy only.

In: for each drawn defect the logarithm of its size, that of its contrast, its region, and whether it was found. The
model is logistic regression, logit POD = a + b log size + c log contrast + d log size log contrast + e(region), where
neither larger nor clearer defects are found less often. Firth's penalty (Firth 1993; Heinze & Schemper 2002) lets it
exist where all small ones are missed and all large ones found.

    a90      the size found with a probability of 90 %
    a90/95   its upper 95 % confidence bound: where the likelihood ratio of "a90 is this large" reaches 2.71; where that
             is nowhere, the size up to which 29 of 29 are found

Defects on one image are not independent, as some parts are nearer to the threshold than others: the likelihood ratio is
divided by how much larger the variance of log a90 is where images are the units (sandwich estimator), at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["HitMissModel", "Trials"]

_LIKELIHOOD_RATIO = 1.6449**2  # one-sided 95 %
_Z_TWO_SIDED = 1.96
_LOGIT_90 = math.log(9)
_STEPS, _HALVINGS, _BISECTIONS = 60, 12, 20
_SIZE, _CONTRAST = 1, 2  # places of their coefficients
_LARGEST_STEP, _ENOUGH = 3.0, 1e-7  # of a coefficient, and of the log likelihood
_ENOUGH_FOUND = 29  # 0.9**29 < 0.05
_FAR = math.log(100)  # a bound further above a90 than that is none

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """Drawn defects: each field has one entry `(n,)` per defect."""

    log_size: Values
    log_contrast: Values
    region: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]  # which of the images it is drawn on
    hit: npt.NDArray[np.bool_]


class HitMissModel:
    """The fit to the trials of one kind; with `by_region` each region has its own level."""

    def __init__(self, trials: Trials, by_region: bool = False) -> None:
        self._trials = trials
        self._regions = np.unique(trials.region).tolist() if by_region else []
        self._smallest, self._largest = float(trials.log_size.min()), float(trials.log_size.max())

    def log_a90(self, log_contrast: float, region: int = 0) -> float:
        """The logarithm of the size that is found with a probability of 90 %, at least that of the smallest drawn.

        Infinity where there is none: where larger ones are not found more often, and the largest in fewer cases.
        """
        beta, _ = self._fit(self._design(self._largest, log_contrast, region))
        level, slope = float(beta[0]), float(beta[1])
        if slope <= 0:
            return self._smallest if level >= _LOGIT_90 else math.inf
        return max(self._smallest, self._largest + (_LOGIT_90 - level) / slope)

    def log_a90_95(self, log_contrast: float, region: int = 0) -> float:
        """The upper 95 % confidence bound of `log_a90`; infinity where there is none."""
        low = self.log_a90(log_contrast, region)
        if not math.isfinite(low):
            return math.inf
        design = self._design(low, log_contrast, region)
        beta, likelihood = self._fit(design)
        limit = _LIKELIHOOD_RATIO * self._clustering(design, beta)

        def is_above(log_size: float) -> bool:
            """Whether the likelihood ratio says that the true a90 is smaller."""
            design = self._design(log_size, log_contrast, region)
            return 2 * (likelihood - self._fit(design, _LOGIT_90)[1]) >= limit

        high = low + _FAR
        if low == self._smallest and beta[0] > _LOGIT_90 and is_above(low):
            return low
        if not is_above(high):
            return self._all_found(log_contrast, region)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if is_above(middle) else (middle, high)
        return high

    def pod(self, log_size: float, log_contrast: float, region: int = 0) -> tuple[float, float, float]:
        """The probability of detection, and the ends of its 95 % interval (Wald, on the logit)."""
        design = self._design(log_size, log_contrast, region)
        beta, _ = self._fit(design)
        _, information, _ = _penalised(design, self._trials.hit, beta)
        variance = float(np.linalg.inv(information)[0, 0]) * self._clustering(design, beta)
        middle, low, high = _sigmoid(beta[0] + np.array([0, -1, 1]) * _Z_TWO_SIDED * math.sqrt(variance)).tolist()
        return middle, low, high

    def _all_found(self, log_contrast: float, region: int) -> float:
        """The size up to which 29 defects were drawn at this contrast, where every one is found; else infinity.

        With a POD of 90 % at that size, and less below, that happens in fewer than 5 % of cases.
        """
        trials = self._trials
        here = np.isclose(trials.log_contrast, log_contrast)
        if self._regions:
            here &= trials.region == region
        if here.sum() < _ENOUGH_FOUND or not trials.hit[here].all():
            return math.inf
        return float(np.sort(trials.log_size[here])[_ENOUGH_FOUND - 1])

    def _design(self, log_size: float, log_contrast: float, region: int) -> Values:
        """Covariates `(n, k)` whose intercept is the logit at this size, this contrast and in this region."""
        trials = self._trials
        size, contrast = trials.log_size - log_size, trials.log_contrast - log_contrast
        others = [trials.region == other for other in self._regions if other != region]
        return np.column_stack([np.ones(len(size)), size, contrast, size * contrast, *others]).astype(np.float64)

    def _fit(self, design: Values, intercept: float | None = None) -> tuple[Values, float]:
        """The coefficients with the largest penalised likelihood, and its logarithm; the intercept may be given.

        Neither larger nor clearer defects are found less often: such a coefficient is 0.
        """
        given = {} if intercept is None else {0: intercept}
        found = self._maximum(design, given)
        for which in (_SIZE, _CONTRAST):
            if found[0][which] < 0:
                given[which] = 0.0
                found = self._maximum(design, given)
        return found

    def _maximum(self, design: Values, given: Mapping[int, float]) -> tuple[Values, float]:
        """The same, with some coefficients given, by Newton steps."""
        hit = self._trials.hit
        beta = np.zeros(design.shape[1])
        beta[list(given)] = list(given.values())
        free = np.array([i for i in range(len(beta)) if i not in given], np.int64)
        likelihood, information, probability = _penalised(design, hit, beta)
        for _ in range(_STEPS):
            weight = probability * (1 - probability)
            leverage = weight * np.sum(design @ np.linalg.inv(information) * design, axis=1)
            score = design.T @ (hit - probability + leverage * (0.5 - probability))
            step = np.linalg.solve(information[np.ix_(free, free)], score[free])
            step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max(initial=0)), 1e-12))
            for _ in range(_HALVINGS):
                tried = beta.copy()
                tried[free] += step
                reached = _penalised(design, hit, tried)
                if reached[0] >= likelihood:
                    break
                step = step / 2
            else:
                break
            gained, beta = reached[0] - likelihood, tried
            likelihood, information, probability = reached
            if gained < _ENOUGH:
                break
        return beta, likelihood

    def _clustering(self, design: Values, beta: Values) -> float:
        """How much larger the intercept's variance is where images, not defects, are independent; at least 1.

        With the intercept at a90, log a90 moves with nothing else.
        """
        _, information, probability = _penalised(design, self._trials.hit, beta)
        inverse = np.linalg.inv(information)
        scores = design * (self._trials.hit - probability)[:, None]
        _, image = np.unique(self._trials.image, return_inverse=True)
        n = int(image.max()) + 1
        summed = np.zeros((n, design.shape[1]))
        np.add.at(summed, image, scores)
        variance = float(np.sum((summed @ inverse[0]) ** 2)) * n / max(n - 1, 1)
        return max(1.0, variance / float(inverse[0, 0]))


def _sigmoid(eta: Values) -> Values:
    return np.asarray(0.5 * (1 + np.tanh(eta / 2)))


def _penalised(design: Values, hit: npt.NDArray[np.bool_], beta: Values) -> tuple[float, Values, Values]:
    """Log likelihood and half the logarithm of the information's determinant (Jeffreys' prior); the information, and
    the probabilities of a hit.
    """
    eta = design @ beta
    probability = _sigmoid(eta)
    information = design.T @ (design * (probability * (1 - probability))[:, None])
    sign, logarithm = np.linalg.slogdet(information)
    likelihood = float(-np.logaddexp(0, np.where(hit, -eta, eta)).sum() + logarithm / 2) if sign > 0 else -math.inf
    return likelihood, np.asarray(information), probability
