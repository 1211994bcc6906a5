"""The scores of good images that the model was not trained on, and the operating point that they give.

Frames are model frames uint8 `(H, W, 3)` BGR, read and scored one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simplenet_edge.data.augment import AugmentConfig, extra_frames
from simplenet_edge.data.layouts import Sample
from simplenet_edge.data.reading import MAX_CORRUPT_SHARE, read_frames
from simplenet_edge.errors import DataError
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import InputSpec, OperatingPoint, Predictor, ScoreStatistics
from simplenet_edge.threshold import conformal_threshold, pixel_threshold, score_statistics

__all__ = ["CalibrationScores", "calibration_scores", "joined_scores"]

_CALIBRATION = 1  # in the key of extra frames: others than training's


@dataclass(frozen=True)
class CalibrationScores:
    """The raw score and the largest map value of each calibration image, by the image's name.

    Where the model must bear other light, `changed` holds those of the image's extra frames too: another picture of the
    same part.
    """

    scores: dict[str, float]
    map_maxima: dict[str, float]
    changed: tuple[tuple[str, float, float], ...] = ()  # name, score and largest map value of each extra frame
    corrupt: tuple[tuple[Path, str], ...] = ()  # files that were left out, each with the reason
    parts: Mapping[str, str] = field(default_factory=dict)  # by the image's name; without: each shows another one
    folds: int | None = None  # of how many models the scores are, each of images that it had not seen

    def operating_point(self, alpha: float) -> OperatingPoint:
        """The thresholds of parts and of pixels that reject at most a share `alpha` of good parts."""
        names = [*self.scores, *(name for name, _, _ in self.changed)]
        parts = [self.parts.get(name, name) for name in names]
        maxima = np.array([*self.map_maxima.values(), *(largest for _, _, largest in self.changed)])
        point = conformal_threshold(self._all_scores(), alpha, parts)
        point = dataclasses.replace(point, pixel_threshold=pixel_threshold(maxima, alpha, parts))
        return point if self.folds is None else dataclasses.replace(point, guaranteed=False, folds=self.folds)

    def statistics(self) -> ScoreStatistics:
        """What normal scores look like."""
        return score_statistics(self._all_scores())

    def _all_scores(self) -> npt.NDArray[np.float64]:
        return np.array([*self.scores.values(), *(score for _, score, _ in self.changed)])


def calibration_scores(
    predictor: Predictor,
    samples: Sequence[Sample],
    spec: InputSpec,
    max_corrupt_share: float = MAX_CORRUPT_SHARE,
    progress: Progress = ignore,
    parts: Mapping[str, str] | None = None,
    augment: AugmentConfig | None = None,
    seed: int = 0,
) -> CalibrationScores:
    """Score every calibration image, and its extra frames by `augment` and `seed`; `parts` says by name which images
    show the same part.

    Raises DataError where too many can't be read, or none can.
    """
    reader = read_frames(samples, spec, max_corrupt_share)
    scores: dict[str, float] = {}
    map_maxima: dict[str, float] = {}
    changed = []
    for position, read in enumerate(reader):
        name = read.sample.name
        extra = [] if augment is None else extra_frames(read.frame, augment, (seed, position, _CALIBRATION))
        for frame in (read.frame, *extra):
            prediction = predictor.predict(frame[np.newaxis])
            score, largest = float(prediction.score[0]), float(prediction.map.max())
            if frame is read.frame:
                scores[name], map_maxima[name] = score, largest
            else:
                changed.append((name, score, largest))
        progress("calibration", len(scores), len(samples))
    if not scores:
        raise DataError("no readable image among the calibration images; add images of good parts")
    return CalibrationScores(scores, map_maxima, tuple(changed), tuple(reader.corrupt), parts or {})


def joined_scores(found: Sequence[CalibrationScores]) -> CalibrationScores:
    """The scores that the models of a cross-calibration gave, each of its own images, as those of one."""
    return CalibrationScores(
        {name: score for one in found for name, score in one.scores.items()},
        {name: largest for one in found for name, largest in one.map_maxima.items()},
        tuple(frame for one in found for frame in one.changed),
        tuple(file for one in found for file in one.corrupt),
        {name: part for one in found for name, part in one.parts.items()},
        len(found),
    )
