"""Detection and localisation figures. A figure that isn't defined (one class only, no masks) is None, never NaN.

In: image scores, float `(n,)`, and labels, bool `(n,)`, True = defective; maps float32 `(H, W)` and masks bool
`(H, W)`, True = defective. Larger scores are more anomalous and everything must be finite. All figures are exact: no
binning of thresholds, equal scores are one step of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

__all__ = [
    "AUPRO_LIMIT",
    "BestF1",
    "PixelScores",
    "aupro",
    "average_precision",
    "best_f1",
    "image_auroc",
    "pixel_auroc",
    "pixel_scores",
]

AUPRO_LIMIT = 0.3
"""False-positive rate up to which AUPRO integrates, as MVTec's authors do."""

Scores: TypeAlias = "npt.NDArray[np.floating[Any]]"  # as text: numpy 1.21 can't evaluate it
Labels = npt.NDArray[np.bool_]


class BestF1(NamedTuple):
    """The largest F1 that any threshold gives, and that threshold; defective when `score > threshold`."""

    f1: float
    threshold: float


def image_auroc(scores: Scores, labels: Labels) -> float | None:
    """Area under the ROC curve: how often a defective image outscores a good one, ties counting half."""
    return float(roc_auc_score(labels, scores)) if _has_both(labels) else None


def average_precision(scores: Scores, labels: Labels) -> float | None:
    """Average precision of finding the defective images: precision summed over the steps of recall."""
    return float(average_precision_score(labels, scores)) if _has_both(labels) else None


def best_f1(scores: Scores, labels: Labels) -> BestF1 | None:
    """The best F1 over all thresholds. It is chosen on labelled images: a figure to report, not a threshold to use."""
    if not _has_both(labels):
        return None
    precision, recall, lowest_rejected = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1[:-1]))  # the last point has no threshold
    accepted = scores[scores < lowest_rejected[best]]
    threshold = accepted.max() if len(accepted) else np.nextafter(scores.min(), -np.inf, dtype=scores.dtype)
    return BestF1(float(f1[best]), float(threshold))


@dataclass(frozen=True)
class PixelScores:
    """The pixels of some images, ready for `pixel_auroc` and `aupro`.

    `normal` float32 `(n,)` and `defective` float32 `(m,)` are scores, ascending; `region_share` float64 `(m,)` is
    1 / (pixels in the region) of each defective pixel.
    """

    normal: npt.NDArray[np.float32]
    defective: npt.NDArray[np.float32]
    region_share: npt.NDArray[np.float64]


def pixel_scores(maps: Sequence[npt.NDArray[np.float32]], masks: Sequence[Labels]) -> PixelScores:
    """Sort the pixels of maps `(H, W)` with their masks `(H, W)`; a region is 8-connected, within one image.

    Needs about twice the memory of the maps for as long as it runs, once that for its result.
    """
    normal = [np.empty(0, np.float32)]
    defective = [np.empty(0, np.float32)]
    region_share = [np.empty(0, np.float64)]
    for anomaly_map, mask in zip(maps, masks, strict=True):
        normal.append(anomaly_map[~mask])
        if mask.any():
            _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            region = regions[mask]
            defective.append(anomaly_map[mask])
            region_share.append(1 / np.bincount(region)[region])
    all_normal, all_defective = np.concatenate(normal), np.concatenate(defective)
    all_normal.sort()
    order = np.argsort(all_defective)
    return PixelScores(all_normal, all_defective[order], np.concatenate(region_share)[order])


def pixel_auroc(*groups: PixelScores) -> float | None:
    """Area under the ROC curve over all pixels of the groups together."""
    return _area(groups, [np.ones(len(group.defective)) for group in groups], limit=1.0)


def aupro(*groups: PixelScores, limit: float = AUPRO_LIMIT) -> float | None:
    """Area under the per-region-overlap curve up to the false-positive rate `limit`, divided by `limit`.

    Every region counts the same, whatever its size; the false-positive rate is over the normal pixels of all images
    (Bergmann et al. 2021, section 5.2). 1 is perfect; a constant map gets `limit` / 2.
    """
    return _area(groups, [group.region_share for group in groups], limit)


def _area(groups: Sequence[PixelScores], weights: Sequence[npt.NDArray[np.float64]], limit: float) -> float | None:
    """Area, up to `limit`, under the curve of weighted overlap over false-positive rate, scaled so that 1 is perfect.

    The overlap is a sum over defective pixels. A pixel that `above` normal pixels outscore and `ties` equal adds a
    line from 0 at `above` to its weight at `above + ties`, then stays; so its area has a closed form and no curve is
    built.
    """
    n_normal = sum(len(group.normal) for group in groups)
    total_weight = sum(float(weight.sum()) for weight in weights)
    if n_normal == 0 or total_weight == 0:
        return None
    area = 0.0
    for group, weight in zip(groups, weights, strict=True):
        not_above = np.zeros(len(group.defective))
        ties = np.zeros(len(group.defective))
        for other in groups:
            right = np.searchsorted(other.normal, group.defective, side="right")
            not_above += right
            ties += right - np.searchsorted(other.normal, group.defective, side="left")
        room = limit * n_normal - (n_normal - not_above)
        on_the_line = np.clip(room, 0, ties)
        areas = np.maximum(room - ties, 0) + on_the_line**2 / (2 * np.maximum(ties, 1))
        area += float(weight @ areas)
    return min(area / (limit * n_normal * total_weight), 1.0)  # rounding may pass 1


def _has_both(labels: Labels) -> bool:
    return bool(labels.any()) and not bool(labels.all())
