"""Is a precision as good as FP32? Measured on images, against stated bounds, before a bundle is written.

What a fair comparison of verdicts is. Scores of another precision are other numbers, so that each precision has its own
threshold, from the same calibration images by the same rule. A verdict flips where an image is NG for one at its
threshold and OK for the other at its own. With labelled images, which no threshold comes from, the flips say what the
line would notice. A few images lie so near the FP32 threshold that rounding alone decides; those within `rounding` of
it, a share of the maps' range that is fixed beforehand and not fitted, are counted apart as `borderline`.

Without labelled images the calibration images stand in, and the gate says so. There the thresholds are order statistics
of the very scores that they judge: each precision rejects equally many, and flips are only images that changed places
across the threshold. That is nearly blind, so that the rank correlation of the scores is bounded as well: it falls
with any disorder, wherever the threshold is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from simplenet_edge.comparison import FP32_TOLERANCE, Differences, verdict_flips
from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import ParityError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.export.precision.drawn_test import ENOUGH_FRAMES
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, Prediction, Predictor

__all__ = ["BOUNDS", "AcceptanceResult", "AcceptanceTest", "Bounds", "require_passed"]


@dataclass(frozen=True)
class Bounds:
    """The worst that a precision may do: shares of images, points of AUROC / 100, Spearman's rank correlation.

    `drawn_loss` is of the AUROC of defects drawn on at least 40 good images; of n fewer it is larger by the root of
    40 / n. `rounding` is the half width, as a share of the maps' range, of the band around the FP32 threshold where a
    flip is the rounding of the number format and not counted. None: no bound, for a model that has learned anew and
    ranks good parts in its own way.
    """

    auroc_loss: float
    drawn_loss: float
    flips: float | None = None
    rank_correlation: float | None = None
    rounding: float = FP32_TOLERANCE


BOUNDS = {
    "fp16": Bounds(
        auroc_loss=0.001,
        drawn_loss=0.02,
        flips=0.005,
        rank_correlation=0.99,
        rounding=float(np.finfo(np.float16).eps),
    ),
    "int8": Bounds(auroc_loss=0.02, drawn_loss=0.02),
}
"""INT8's losses are twice the spread that seeds alone have: trained twice in float, the same model differs by that."""


@dataclass(frozen=True)
class AcceptanceResult:
    """A precision beside FP32. Map and score differences are shares of the range of the FP32 maps; None = undefined.

    `images` is "labelled" or "calibration"; `failures` is empty for a precision that passed.
    """

    precision: str
    images: str
    n_images: int
    threshold: float
    threshold_fp32: float
    auroc: float | None
    auroc_fp32: float | None
    aupro: float | None
    aupro_fp32: float | None
    flips: int
    borderline: int
    rank_correlation: float
    score_max: float
    map_max: float
    map_mean: float
    drawn_auroc: float | None = None  # of defects drawn on good images
    drawn_auroc_fp32: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.failures

    def rows(self) -> list[tuple[str, str, str]]:
        """The table: figure, FP32, this precision."""
        return [
            ("images", f"{self.n_images} {self.images}", f"{self.n_images} {self.images}"),
            ("threshold", f"{self.threshold_fp32:.6g}", f"{self.threshold:.6g}"),
            ("image AUROC", _figure(self.auroc_fp32), _figure(self.auroc)),
            ("AUPRO", _figure(self.aupro_fp32), _figure(self.aupro)),
            ("AUROC of drawn defects", _figure(self.drawn_auroc_fp32), _figure(self.drawn_auroc)),
            ("verdict flips", "", f"{self.flips} ({self.flips / self.n_images:.2%}), {self.borderline} borderline"),
            ("rank correlation", "", f"{self.rank_correlation:.5f}"),
            ("score difference, worst", "", f"{self.score_max:.2e}"),
            ("map difference, worst", "", f"{self.map_max:.2e}"),
            ("map difference, mean", "", f"{self.map_mean:.2e}"),
        ]


class AcceptanceTest:
    """Compares precisions with the FP32 predictor on one set of samples.

    `reference_point` is the FP32 operating point from the same calibration images that the precisions' come from.
    `labelled` says whether the samples are labelled test images or the calibration images. The FP32 maps are kept, 4
    bytes a pixel, so that each precision costs its own time only.
    """

    def __init__(
        self,
        reference: Predictor,
        reference_point: OperatingPoint,
        samples: Sequence[Sample],
        spec: InputSpec,
        labelled: bool,
    ) -> None:
        self._point = reference_point
        self._samples = samples
        self._spec = spec
        self._labelled = labelled
        self._recorded = _Recorded(reference)
        self._expected = evaluate(self._recorded, samples, spec, reference_point)

    def judge(
        self,
        precision: str,
        candidate: Predictor,
        point: OperatingPoint,
        drawn: tuple[float, float, int] | None = None,
    ) -> tuple[AcceptanceResult, Evaluation]:
        """The comparison and the candidate's own figures at its operating point.

        `drawn` is the AUROC of drawn defects, this one's and FP32's, and how many good frames both are of.
        """
        paired = _Paired(candidate, self._recorded.predictions)
        found = evaluate(paired, self._samples, self._spec, point)
        bounds, expected = BOUNDS[precision], self._expected
        scores, expected_scores = (np.array([image.score for image in e.images]) for e in (found, expected))
        apart, thresholds = paired.differences, (point.threshold, self._point.threshold)
        flips = verdict_flips(scores, expected_scores, thresholds, bounds.rounding * apart.scale)
        result = AcceptanceResult(
            precision=precision,
            images="labelled" if self._labelled else "calibration",
            n_images=len(scores),
            threshold=point.threshold,
            threshold_fp32=self._point.threshold,
            auroc=found.metrics.image_auroc,
            auroc_fp32=expected.metrics.image_auroc,
            aupro=found.metrics.aupro,
            aupro_fp32=expected.metrics.aupro,
            flips=int(flips.decided.sum()),
            borderline=int(flips.borderline.sum()),
            rank_correlation=_rank_correlation(scores, expected_scores),
            score_max=apart.score_max,
            map_max=apart.map_max,
            map_mean=apart.map_mean,
            drawn_auroc=drawn and drawn[0],
            drawn_auroc_fp32=drawn and drawn[1],
        )
        if drawn is not None and drawn[2] < ENOUGH_FRAMES:  # the chance of an AUROC grows as its frames get fewer
            bounds = dataclasses.replace(bounds, drawn_loss=bounds.drawn_loss * math.sqrt(ENOUGH_FRAMES / drawn[2]))
        return dataclasses.replace(result, failures=_failures(result, bounds)), found


def require_passed(result: AcceptanceResult) -> AcceptanceResult:
    """The result itself; raises ParityError, with the table, where it failed."""
    if result.passed:
        return result
    table = "; ".join(f"{name}: {fp32 or '-'} and {found}" for name, fp32, found in result.rows())
    raise ParityError(
        f"{result.precision} is not as good as fp32: {'; '.join(result.failures)}; no bundle was written. "
        f"Leave --{result.precision} out, or calibrate with more images of good parts. "
        f"Measured, fp32 and {result.precision}: {table}"
    )


class _Recorded:
    """The reference, and every batch that it predicted."""

    def __init__(self, reference: Predictor) -> None:
        self._reference = reference
        self.predictions: list[Prediction] = []

    def predict(self, frames: Frames) -> Prediction:
        self.predictions.append(self._reference.predict(frames))
        return self.predictions[-1]


class _Paired:
    """Predicts with the candidate, batch by batch as the reference did, and adds up how far they are apart."""

    def __init__(self, candidate: Predictor, expected: Sequence[Prediction]) -> None:
        self._candidate, self._expected = candidate, iter(expected)
        self.differences = Differences()

    def predict(self, frames: Frames) -> Prediction:
        found = self._candidate.predict(frames)
        self.differences.add(found, next(self._expected))
        return found


def _failures(result: AcceptanceResult, bounds: Bounds) -> tuple[str, ...]:
    failures = []
    if bounds.flips is not None and result.flips > bounds.flips * result.n_images:
        failures.append(f"{result.flips} of {result.n_images} verdicts flip, at most {bounds.flips:.1%} may")
    for fp32, found, bound, what in (
        (result.auroc_fp32, result.auroc, bounds.auroc_loss, "AUROC"),
        (result.drawn_auroc_fp32, result.drawn_auroc, bounds.drawn_loss, "AUROC of drawn defects"),
    ):
        if fp32 is not None and found is not None and fp32 - found > bound:
            failures.append(f"{100 * (fp32 - found):.2f} points of {what} are lost, at most {100 * bound:.1f} may be")
    if bounds.rank_correlation is not None and not result.rank_correlation >= bounds.rank_correlation:
        failures.append(
            f"the rank correlation of the scores is {result.rank_correlation:.4f}, expected at least "
            f"{bounds.rank_correlation}"
        )
    return tuple(failures)


def _rank_correlation(scores: Any, expected: Any) -> float:
    """Spearman's; 1 where either side has equal scores only and there is no order to keep."""
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(expected) == 0:
        return 1.0 if np.ptp(scores) == np.ptp(expected) else 0.0
    return float(scipy.stats.spearmanr(scores, expected).statistic)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
