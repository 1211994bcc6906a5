"""The good parts that a precision comes from: its activation ranges, its threshold, and the gate without labels.

They are the training run's own calibration images, or a folder. They are read as model frames uint8 `(H, W, 3)`, one by
one, as often as they are needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import scipy.stats

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.data.facts import gather_facts
from simplenet_edge.data.groups import part_labels
from simplenet_edge.data.layouts import Sample, load_dataset
from simplenet_edge.data.reading import read_frames
from simplenet_edge.errors import DataError
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint
from simplenet_edge.threshold import threshold_rank
from simplenet_edge.training.run import TrainingRun

__all__ = [
    "ENOUGH_IMAGES",
    "CalibrationImages",
    "calibration_images",
    "refuse_defects",
    "too_few_warning",
]

ENOUGH_IMAGES = 100
"""Below this many images ranges and thresholds move visibly with the choice of images."""

_MOST_RANGE_SAMPLES = 256  # more images don't change a range
_CHANCE = 1e-3  # how improbable a folder of good parts alone must be to be refused
_LISTED = 10  # files that a message names


@dataclass(frozen=True)
class CalibrationImages:
    """Good parts; `source` says in words where they come from."""

    samples: tuple[Sample, ...]
    spec: InputSpec
    source: str
    parts: Mapping[str, str] = field(default_factory=dict)  # which part each shows, by name; without: another one each
    augment: AugmentConfig | None = None  # extra frames that the threshold has to bear too
    seed: int = 0  # of the extra frames

    @property
    def range_samples(self) -> tuple[Sample, ...]:
        """The samples that set ranges: at most 256, evenly spread."""
        return self.samples[:: math.ceil(len(self.samples) / _MOST_RANGE_SAMPLES)]

    def frames(self, samples: Sequence[Sample]) -> Iterator[Frames]:
        """Model frames uint8 `(H, W, 3)` of some of the samples. Raises DataError where too many can't be read."""
        return (read.frame for read in read_frames(samples, self.spec))


def calibration_images(run: TrainingRun, folder: Path | None = None) -> CalibrationImages:
    """The images in `folder`, or those that set the run's threshold. Raises DataError where there are none.

    A folder must hold good parts that the model was not trained on, as the threshold comes from them; those that show
    the same part are found by their looks, unless the run took each image for a part of its own. The run's own images
    must be where they were, and unchanged; their parts are the run's.
    """
    spec, parts = run.model.input_spec, run.record.parts
    if folder is not None:
        samples = load_dataset(good=folder).train
        group = "none" if parts is None or parts.rule == "none" else "auto"
        labels, _ = part_labels(gather_facts(samples, spec.bit_depth), group)
        found = {sample.name: label for sample, label in zip(samples, labels, strict=True)}
        return CalibrationImages(samples, spec, "a folder of good parts", found, *_extra_frames(run))
    try:
        samples = run.images("calibration")
    except DataError as error:
        raise DataError(
            f"{error}; or pass --calibration FOLDER with images of good parts that the model was not trained on"
        ) from None
    own = {} if parts is None else parts.calibration
    return CalibrationImages(samples, spec, "the training run's calibration split", own, *_extra_frames(run))


def _extra_frames(run: TrainingRun) -> tuple[AugmentConfig | None, int]:
    """Which extra frames the run calibrated on, and their seed."""
    augment = run.record.augment
    if run.operating_point.n_calibration == len(run.calibration_scores) or augment is None:
        return None, 0
    return augment, int(run.record.train["seed"])


def too_few_warning(images: CalibrationImages) -> str | None:
    """What to tell the user of a small set; None where there are enough."""
    n = len(images.samples)
    if n >= ENOUGH_IMAGES:
        return None
    return f"{n} calibration images are few: ranges and threshold depend on which; use {ENOUGH_IMAGES} or more"


def refuse_defects(scores: dict[str, float], point: OperatingPoint, parts: Mapping[str, str] | None = None) -> None:
    """Raise DataError, naming the files, where more images are rejected than good parts explain.

    `point` is the run's FP32 operating point, the k-th smallest of n scores of good parts. Of m new good parts the
    number above it is beta-binomial (m, n + 1 - k, k), whatever the scores' distribution; a count with a probability
    below 0.1 % is refused. The plain binomial with alpha would ignore that the threshold itself is an estimate. Of
    images that show one part by `parts`, each counts for its share of the part, as it does for the threshold.
    """
    rejected = sorted((name for name, score in scores.items() if score > point.threshold), key=lambda n: -scores[n])
    n = point.n_parts or point.n_calibration
    k = threshold_rank(n, point.alpha)
    shown = {name: (parts or {}).get(name, name) for name in scores}
    sizes = Counter(shown.values())
    n_rejected = math.floor(sum(Fraction(1, sizes[shown[name]]) for name in rejected))
    chance = float(scipy.stats.betabinom.sf(n_rejected - 1, len(sizes), n + 1 - k, k))
    if chance >= _CHANCE:
        return
    names = ", ".join(rejected[:_LISTED]) + (f" and {len(rejected) - _LISTED} more" if len(rejected) > _LISTED else "")
    raise DataError(
        f"{len(rejected)} of {len(scores)} calibration images look defective: expected about "
        f"{point.alpha * len(scores):.1f} above the threshold {point.threshold:.4g}; look at {names}: take defective "
        "parts out, or train again where good parts look like that now"
    )
