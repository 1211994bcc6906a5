"""Two models over the same archive: where they agree, what changes, and what their thresholds would have done.

In: the raw scores of both, float64 `(n,)`, of the same pictures in the same order. Relative scores are
`(score - median) / (threshold - median)` with the median score of the model's calibration images: 0 is a normal part
and 1 the threshold, whatever the scale of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.manifest import PrecisionRecord
from simplenet_edge.threshold import CONFIDENCE, conformal_threshold, images_needed, rate_bound

__all__ = ["Backtest", "BacktestedModel", "backtest", "rank_correlation", "relative_scores", "worst_flips"]

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BacktestedModel:
    """What a model's threshold did to the archive. Rates are false rejects only where the archive is of good parts."""

    bundle_id: str
    threshold: float
    alpha: float  # the share of good parts that the threshold may reject, as promised
    rejected: int
    rate: float  # rejected share
    rate_bound: float  # the upper end of its Clopper-Pearson interval
    archive_threshold: float  # what the archive as calibration images would have given for alpha
    archive_guaranteed: bool  # whether they are enough for that


@dataclass(frozen=True)
class Backtest:
    """Both models, and how they go together. `ok_to_ng` are OK by the old model and NG by the new one."""

    pictures: int  # with a score
    failed: int  # without
    old: BacktestedModel
    new: BacktestedModel
    both_ok: int
    both_ng: int
    ok_to_ng: int
    ng_to_ok: int
    rank_correlation: float | None  # Spearman's; None where a model gives all pictures one score

    @property
    def agreement(self) -> float:
        """Share of the pictures with the same verdict."""
        return (self.both_ok + self.both_ng) / self.pictures

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {**vars(self), "agreement": self.agreement, "confidence": CONFIDENCE}
        return {**values, "old": vars(self.old), "new": vars(self.new)}


def backtest(
    old: Scores, new: Scores, ids: tuple[str, str], records: tuple[PrecisionRecord, PrecisionRecord], failed: int
) -> Backtest:
    """Compare the scores of two models, whose bundles have these ids and records. Raises DataError for none."""
    if not len(old):
        raise DataError(f"none of the {failed} pictures has a score; see the column error of the Parquet file")
    is_old_ng, is_new_ng = (
        scores > record.operating_point.threshold for scores, record in zip((old, new), records, strict=True)
    )
    models = [_model(scores, name, record) for scores, name, record in zip((old, new), ids, records, strict=True)]
    return Backtest(
        pictures=len(old),
        failed=failed,
        old=models[0],
        new=models[1],
        both_ok=int((~is_old_ng & ~is_new_ng).sum()),
        both_ng=int((is_old_ng & is_new_ng).sum()),
        ok_to_ng=int((~is_old_ng & is_new_ng).sum()),
        ng_to_ok=int((is_old_ng & ~is_new_ng).sum()),
        rank_correlation=rank_correlation(old, new),
    )


def relative_scores(scores: Scores, record: PrecisionRecord) -> Scores:
    """Scores on the scale on which 0 is normal and 1 the threshold; where those are one, distances from it plus 1."""
    threshold, median = record.operating_point.threshold, record.score_statistics.median
    scale = threshold - median if threshold > median else 1.0
    return 1 + (scores - threshold) / scale


def worst_flips(old: Scores, new: Scores, at_most: int) -> tuple[list[int], list[int]]:
    """Which pictures change from OK to NG and from NG to OK, by their relative scores, most changed first."""
    change = new - old
    flips = []
    for flipped, order in (((old <= 1) & (new > 1), -change), ((old > 1) & (new <= 1), change)):
        found = np.flatnonzero(flipped)
        flips.append(found[np.argsort(order[found], kind="stable")[:at_most]].tolist())
    return flips[0], flips[1]


def rank_correlation(old: Scores, new: Scores) -> float | None:
    """Spearman's rank correlation, equal scores sharing their mean rank; None where all scores of one are equal."""
    ranks = []
    for scores in (old, new):
        _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)])
    if min(float(rank.std()) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _model(scores: Scores, bundle_id: str, record: PrecisionRecord) -> BacktestedModel:
    point, n = record.operating_point, len(scores)
    rejected = int((scores > point.threshold).sum())
    return BacktestedModel(
        bundle_id=bundle_id,
        threshold=point.threshold,
        alpha=point.alpha,
        rejected=rejected,
        rate=rejected / n,
        rate_bound=1.0 if rejected == n else rate_bound(n, rejected, CONFIDENCE),
        archive_threshold=conformal_threshold(scores, point.alpha).threshold,
        archive_guaranteed=n >= images_needed(point.alpha),
    )
