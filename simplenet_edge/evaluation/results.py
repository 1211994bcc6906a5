"""The outcome of an evaluation: frozen records, their JSON values, and the file.

Scores are raw; shares and figures are within 0..1, None where they are not defined. Names are paths inside the dataset.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simplenet_edge.data.findings import counted, listed
from simplenet_edge.data.layouts import Sample
from simplenet_edge.evaluation.metrics import AUPRO_LIMIT
from simplenet_edge.files import write_json
from simplenet_edge.spec import InputSpec, OperatingPoint, to_dict

__all__ = [
    "EVALUATION_NAME",
    "ClassMetrics",
    "ConfusionCounts",
    "Evaluation",
    "ImageResult",
    "Metrics",
    "printable",
    "write_evaluation",
]

EVALUATION_NAME = "evaluation.json"


@dataclass(frozen=True)
class Metrics:
    """Figures that need no threshold, over all images. None = not defined for these images.

    `best_f1` and its threshold are chosen on these very images: an upper bound, not an operating point.
    """

    image_auroc: float | None
    average_precision: float | None
    best_f1: float | None
    best_f1_threshold: float | None
    pixel_auroc: float | None
    aupro: float | None


@dataclass(frozen=True)
class ConfusionCounts:
    """How many images the operating point accepts and rejects, and the shares that follow; None = not defined."""

    good_accepted: int
    good_rejected: int
    defective_rejected: int
    defective_accepted: int

    @property
    def n_good(self) -> int:
        """Good images."""
        return self.good_accepted + self.good_rejected

    @property
    def n_defective(self) -> int:
        """Defective images."""
        return self.defective_rejected + self.defective_accepted

    @property
    def false_reject_rate(self) -> float | None:
        """Share of the good images that are rejected."""
        return _share(self.good_rejected, self.n_good)

    @property
    def recall(self) -> float | None:
        """Share of the defective images that are rejected."""
        return _share(self.defective_rejected, self.n_defective)

    @property
    def precision(self) -> float | None:
        """Share of the rejected images that are defective."""
        return _share(self.defective_rejected, self.defective_rejected + self.good_rejected)

    @property
    def accuracy(self) -> float | None:
        """Share of all images with the right verdict."""
        return _share(self.good_accepted + self.defective_rejected, self.n_good + self.n_defective)


@dataclass(frozen=True)
class ClassMetrics:
    """One defect class against all good images. `n_masks` images have ground truth inside the model frame."""

    defect: str
    n: int
    n_masks: int
    image_auroc: float | None
    recall: float | None
    pixel_auroc: float | None
    aupro: float | None


@dataclass(frozen=True)
class ImageResult:
    """The raw score of one image; `rejected` is the verdict NG at the operating point.

    `marked_share` is the share of its pixels above the pixel threshold, None where the operating point has none.
    """

    sample: Sample
    score: float
    rejected: bool
    marked_share: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """All that is known of a model on a set of test images.

    `images` keeps the samples' order. `corrupt` holds (name, reason) of the images and masks that can't be used.
    `parts_in_training` names the images that show a part which the model was trained on; None where that is not known.
    """

    spec: InputSpec
    operating_point: OperatingPoint
    metrics: Metrics
    verdicts: ConfusionCounts
    classes: tuple[ClassMetrics, ...]
    images: tuple[ImageResult, ...]
    corrupt: tuple[tuple[str, str], ...]
    parts_in_training: tuple[str, ...] | None = None

    def parts_warning(self) -> str | None:
        """What to tell the user of test images of parts that were trained on; None where there is none."""
        if not self.parts_in_training:
            return None
        return (
            f"{len(self.parts_in_training)} of {counted(len(self.images), 'test image')} show parts that are in "
            f"training too, such as {listed(self.parts_in_training)}: on new parts there will be more false rejects, "
            "and the figures will be worse. Test on parts of their own"
        )

    def undefined(self) -> tuple[str, ...]:
        """Why figures are None, a sentence each."""
        reasons = []
        if not self.verdicts.n_good:
            reasons.append("no AUROC and no rate of false rejects: no good test image could be used")
        if not self.verdicts.n_defective:
            reasons.append("no AUROC and no recall: no defective test image could be used")
        n_masked = sum(bool(image.sample.mask_paths) for image in self.images)
        if self.metrics.pixel_auroc is not None:
            bare = [figures.defect for figures in self.classes if not figures.n_masks]
            reasons += [f"no pixel AUROC and no AUPRO of {defect}: none of its masks could be used" for defect in bare]
        elif n_masked:
            reasons.append(
                f"no pixel AUROC and no AUPRO: none of the {n_masked} masks could be used and marks a part of the "
                "model's frame"
            )
        elif self.verdicts.n_defective:
            reasons.append("no pixel AUROC and no AUPRO: the defective images have no masks")
        return tuple(reasons)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values: no NaN, None where a figure is not defined."""
        shares = ("false_reject_rate", "recall", "precision", "accuracy")
        return {
            "input": to_dict(self.spec),
            "operating_point": to_dict(self.operating_point),
            "metrics": {**dataclasses.asdict(self.metrics), "aupro_limit": AUPRO_LIMIT},
            "verdicts": {
                **dataclasses.asdict(self.verdicts),
                **{name: getattr(self.verdicts, name) for name in shares},
            },
            "classes": [dataclasses.asdict(c) for c in self.classes],
            "images": [
                {
                    "path": printable(result.sample.name),
                    "defect": result.sample.defect,
                    "score": result.score,
                    "verdict": "NG" if result.rejected else "OK",
                    "marked_share": result.marked_share,
                }
                for result in self.images
            ],
            "parts_in_training": (
                None if self.parts_in_training is None else [printable(name) for name in self.parts_in_training]
            ),
            "corrupt": [{"path": printable(name), "reason": printable(reason)} for name, reason in self.corrupt],
        }


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write `evaluation.json` into `folder`, made where it is missing; atomic. Raises DataError."""
    path = folder / EVALUATION_NAME
    write_json(path, evaluation.to_dict())
    return path


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def printable(text: str) -> str:
    """The text with the bytes of a file name that aren't UTF-8 replaced, so that every JSON reader takes it."""
    return text.encode(errors="replace").decode()
