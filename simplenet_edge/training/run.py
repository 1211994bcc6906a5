"""The folder that `train` leaves and that `evaluate` and `export` read.

model.json, model.safetensors   the model, backbone included
training.json                   the configuration, split, data fingerprint, versions, timings, final losses
descriptors.npy                 what each image looks like, where images of one part were found by their looks
calibration.json                the raw score of each calibration image, and the operating point from them
tensorboard/                    the curves
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from simplenet_edge.bundle_files import npy_array, npy_bytes
from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.data.near_duplicates import NO_DESCRIPTOR
from simplenet_edge.data.reading import fingerprint
from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import ConfigError, DataError, WeightsError
from simplenet_edge.files import write_bytes, write_json
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, OperatingPoint, ScoreStatistics, from_dict, to_dict
from simplenet_edge.threshold import check_threshold
from simplenet_edge.training.step import StepResult

__all__ = [
    "BACKBONE_WEIGHTS",
    "DESCRIPTORS_NAME",
    "EVALUATION_FOLDER",
    "VISIBILITY_FOLDER",
    "VISIBILITY_NAME",
    "ImageSources",
    "PartNames",
    "PatchCounts",
    "SplitNames",
    "StageSeconds",
    "TrainingRecord",
    "TrainingRun",
]

TRAINING_NAME = "training.json"
CALIBRATION_NAME = "calibration.json"
GOLDEN_NAME = "golden.npy"
DESCRIPTORS_NAME = "descriptors.npy"
EVALUATION_FOLDER = "evaluation"
EVALUATION_NAME = "evaluation.json"
VISIBILITY_FOLDER = "visibility"
VISIBILITY_NAME = "visibility.json"
_SUFFIXES = (".json", ".npy", ".safetensors")
BACKBONE_WEIGHTS = "backbone weights"
"""The entry of `versions` that says where the backbone's weights are from, in runs and in bundles."""


@dataclass(frozen=True)
class SplitNames:
    """The names of the samples on each side of the split, as the dataset has them."""

    train: tuple[str, ...]
    calibration: tuple[str, ...]


@dataclass(frozen=True)
class ImageSources:
    """Where the images were at training, in the split's order, and the fingerprints of their names and contents."""

    calibration: tuple[str, ...]
    fingerprint: str  # of the calibration images
    train: tuple[str, ...] = ()  # empty in runs of versions that did not keep it
    train_fingerprint: str = ""


@dataclass(frozen=True)
class PartNames:
    """Which part each image shows, by the image's name; images with the same label show the same part."""

    rule: str  # what --group said; a list by its absolute path
    train: dict[str, str]
    calibration: dict[str, str]


@dataclass(frozen=True)
class PatchCounts:
    """What the features came from: images that could be read, and the rows that were kept of them."""

    images: int
    rows: int


@dataclass(frozen=True)
class StageSeconds:
    """Wall time of each stage of training in seconds."""

    extraction: float
    training: float
    calibration: float


@dataclass(frozen=True)
class TrainingRecord:
    """How a run was made: `training.json`, whose keys are the names of the fields."""

    train: dict[str, Any]  # the recipe, `TrainConfig` as JSON values
    split: SplitNames
    sources: ImageSources | None  # None in runs of versions that did not keep it
    corrupt: tuple[str, ...]  # files that were left out, each with the reason
    data_fingerprint: str
    patches: PatchCounts
    last_epoch: StepResult
    meta_epochs: int
    ended: str  # why training ended
    backbone_sha256: str
    device: str
    threads: int
    seconds: StageSeconds
    versions: dict[str, str]
    parts: PartNames | None = None  # None in runs of versions that did not keep it

    @property
    def augment(self) -> AugmentConfig | None:
        """The extra frames of the recipe. Raises ConfigError for damaged values."""
        values = self.train.get("augment")
        return None if values is None else from_dict(AugmentConfig, values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingRecord:
        """The record that `dataclasses.asdict` gave. Raises ConfigError, KeyError or TypeError for damaged values."""
        kinds = (("split", SplitNames), ("patches", PatchCounts), ("last_epoch", StepResult), ("seconds", StageSeconds))
        nested: dict[str, Any] = {name: from_dict(kind, values[name]) for name, kind in kinds}
        sources = values.get("sources")
        nested["sources"] = None if sources is None else from_dict(ImageSources, sources)
        parts = values.get("parts")
        nested["parts"] = None if parts is None else from_dict(PartNames, parts)
        return from_dict(cls, {**values, **nested})


@dataclass(frozen=True)
class TrainingRun:
    """A finished training: the model in evaluation mode, its operating point, and the record of how it was made."""

    folder: Path
    model: SimpleNet
    operating_point: OperatingPoint
    score_statistics: ScoreStatistics
    calibration_scores: dict[str, float]
    record: TrainingRecord
    golden_frames: Frames

    def images(self, side: Literal["train", "calibration"]) -> tuple[Sample, ...]:
        """The images of one side of the split, unchanged and where they were. Raises DataError where they are not."""
        sources = self.record.sources
        paths, expected = ((), "") if sources is None else (sources.train, sources.train_fingerprint)
        if side == "calibration" and sources is not None:
            paths, expected = sources.calibration, sources.fingerprint
        if not paths:
            raise DataError(f"{self.folder} does not say where its {side} images are; train again")
        if missing := [path for path in paths if not Path(path).is_file()]:
            raise DataError(
                f"{len(missing)} of the {len(paths)} {side} images of {self.folder} are gone, such as {missing[0]}; "
                "put them back, or train again"
            )
        names = getattr(self.record.split, side)
        samples = tuple(Sample(Path(path), name=name) for path, name in zip(paths, names, strict=True))
        if fingerprint(samples) != expected:
            raise DataError(f"the {side} images of {self.folder} are not the ones that it was trained with")
        return samples

    @property
    def descriptors(self) -> npt.NDArray[np.float16] | None:
        """Those of all images of the run `(n, 2048)`; None where parts were not found by looks. Raises WeightsError."""
        path = self.folder / DESCRIPTORS_NAME
        if not path.is_file():
            return None
        try:
            found = npy_array(path.read_bytes(), np.float16)
            if found.shape[1:] != NO_DESCRIPTOR.shape:
                raise ValueError(f"descriptors of shape {found.shape}")
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} is damaged ({error}); train again, or remove it") from error
        return found

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What `evaluate` measured on labelled images last; None where it has not been run. Raises DataError."""
        return self._measured("evaluate", self.folder / EVALUATION_FOLDER / EVALUATION_NAME, "metrics", dict)

    @property
    def visibility(self) -> dict[str, Any] | None:
        """What `visibility` measured on drawn defects last; None where it has not been run. Raises DataError."""
        return self._measured("visibility", self.folder / VISIBILITY_FOLDER / VISIBILITY_NAME, "sizes", list)

    def _measured(self, command: str, path: Path, key: str, kind: type) -> dict[str, Any] | None:
        """What a command left in the run, which has a `kind` under `key`."""
        if not path.is_file():
            return None
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
            if not isinstance(values[key], kind):
                raise TypeError(f"{key} is no {kind.__name__}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path} is damaged ({error}); run `simplenet-edge {command}` again, or remove it"
            ) from error
        return values

    @classmethod
    def load(cls, folder: Path) -> TrainingRun:
        """Read a training run. Raises WeightsError where it is missing, unfinished or damaged."""
        if not folder.is_dir():
            raise WeightsError(f"{folder}: no such training run; expected the folder that `simplenet-edge train` wrote")
        for path in folder.iterdir():
            if path.suffix in _SUFFIXES and path.exists() and not path.is_file():  # a pipe might never end
                raise WeightsError(f"{folder}: the training run is damaged ({path.name} is no file); train again")
        try:
            calibration = json.loads((folder / CALIBRATION_NAME).read_text(encoding="utf-8"))
            record = TrainingRecord.from_dict(json.loads((folder / TRAINING_NAME).read_text(encoding="utf-8")))
            point = from_dict(OperatingPoint, calibration["operating_point"])
            statistics = from_dict(ScoreStatistics, calibration["score_statistics"])
            check_threshold(point, statistics)
            golden = npy_array((folder / GOLDEN_NAME).read_bytes(), np.uint8)
            scores = {str(name): float(score) for name, score in calibration["scores"].items()}
        except FileNotFoundError as error:
            raise WeightsError(
                f"{folder}: no {Path(error.filename).name}; not a training run, or one that was interrupted: "
                "finish it with `simplenet-edge train --resume`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise WeightsError(f"{folder}: the training run is damaged ({error}); train again") from error
        return cls(folder, SimpleNet.load(folder), point, statistics, scores, record, golden)

    def save(self) -> None:
        """Write everything but TensorBoard's files; `calibration.json`, which marks a finished run, comes last."""
        self.model.save(self.folder)
        write_json(self.folder / TRAINING_NAME, dataclasses.asdict(self.record))
        write_bytes(self.folder / GOLDEN_NAME, npy_bytes(self.golden_frames))
        calibration = {
            "operating_point": to_dict(self.operating_point),
            "score_statistics": to_dict(self.score_statistics),
            "scores": self.calibration_scores,
        }
        write_json(self.folder / CALIBRATION_NAME, calibration)


def _refuse_constant(name: str) -> float:
    """NaN and infinity, which Python reads and no manifest holds."""
    raise ValueError(f"{name} is no number")
