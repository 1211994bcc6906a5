"""The scores of good images that the model was not trained on, and the operating point that they give.

Frames are model frames uint8 `(H, W, 3)` BGR, read and scored one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simplenet_edge.data.layouts import Sample
from simplenet_edge.data.reading import MAX_CORRUPT_SHARE, read_frames
from simplenet_edge.errors import DataError
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import InputSpec, OperatingPoint, Predictor, ScoreStatistics
from simplenet_edge.threshold import conformal_threshold, pixel_threshold, score_statistics

__all__ = ["CalibrationScores", "calibration_scores"]


@dataclass(frozen=True)
class CalibrationScores:
    """The raw score and the largest map value of each calibration image, by the image's name."""

    scores: dict[str, float]
    map_maxima: dict[str, float]
    corrupt: tuple[tuple[Path, str], ...] = ()  # files that were left out, each with the reason
    parts: Mapping[str, str] = field(default_factory=dict)  # by the image's name; without: each shows another one

    def operating_point(self, alpha: float) -> OperatingPoint:
        """The thresholds of parts and of pixels that reject at most a share `alpha` of good parts."""
        parts = [self.parts.get(name, name) for name in self.scores]
        point = conformal_threshold(np.array(list(self.scores.values())), alpha, parts)
        return dataclasses.replace(
            point, pixel_threshold=pixel_threshold(np.array(list(self.map_maxima.values())), alpha, parts)
        )

    def statistics(self) -> ScoreStatistics:
        """What normal scores look like."""
        return score_statistics(np.array(list(self.scores.values())))


def calibration_scores(
    predictor: Predictor,
    samples: Sequence[Sample],
    spec: InputSpec,
    max_corrupt_share: float = MAX_CORRUPT_SHARE,
    progress: Progress = ignore,
    parts: Mapping[str, str] | None = None,
) -> CalibrationScores:
    """Score every calibration image; `parts` says by name which show the same part.

    Raises DataError where too many can't be read, or none can.
    """
    reader = read_frames(samples, spec, max_corrupt_share)
    scores: dict[str, float] = {}
    map_maxima: dict[str, float] = {}
    for read in reader:
        prediction = predictor.predict(read.frame[np.newaxis])
        scores[read.sample.name] = float(prediction.score[0])
        map_maxima[read.sample.name] = float(prediction.map.max())
        progress("calibration", len(scores), len(samples))
    if not scores:
        raise DataError("no readable image among the calibration images; add images of good parts")
    return CalibrationScores(scores, map_maxima, tuple(reader.corrupt), parts or {})
