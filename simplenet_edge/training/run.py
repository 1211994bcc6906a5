"""The folder that `train` leaves behind and that `evaluate` and `export` read.

model.json, model.safetensors   the model, backbone included
training.json                   the configuration, split, data fingerprint, versions, timings, final losses
calibration.json                the raw score of each calibration image, and the operating point from them
tensorboard/                    the curves
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplenet_edge.bundle import npy_bytes
from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.files import write_bytes_atomic
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, OperatingPoint, ScoreStatistics, from_dict, to_dict

__all__ = ["EVALUATION_FOLDER", "TrainingRun", "write_json"]

TRAINING_NAME = "training.json"
CALIBRATION_NAME = "calibration.json"
GOLDEN_NAME = "golden.npy"
EVALUATION_FOLDER = "evaluation"
EVALUATION_NAME = "evaluation.json"


@dataclass(frozen=True)
class TrainingRun:
    """A finished training: the model in evaluation mode, its operating point, and the record of how it was made."""

    folder: Path
    model: SimpleNet
    operating_point: OperatingPoint
    score_statistics: ScoreStatistics
    calibration_scores: dict[str, float]
    record: dict[str, Any]
    golden_frames: Frames

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What `evaluate` measured on labelled images last; None where it has not been run."""
        path = self.folder / EVALUATION_FOLDER / EVALUATION_NAME
        if not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values

    @classmethod
    def load(cls, folder: Path) -> TrainingRun:
        """Read a training run. Raises WeightsError where it is missing, unfinished or damaged."""
        if not folder.is_dir():
            raise WeightsError(f"{folder}: no such training run; expected the folder that `simplenet-edge train` wrote")
        try:
            calibration = json.loads((folder / CALIBRATION_NAME).read_text(encoding="utf-8"))
            record = json.loads((folder / TRAINING_NAME).read_text(encoding="utf-8"))
            point = from_dict(OperatingPoint, calibration["operating_point"])
            statistics = from_dict(ScoreStatistics, calibration["score_statistics"])
            golden = np.load(folder / GOLDEN_NAME, allow_pickle=False)
            scores = {str(name): float(score) for name, score in calibration["scores"].items()}
        except FileNotFoundError as error:
            raise WeightsError(
                f"{folder}: no {Path(error.filename).name}; not a training run, or one that was interrupted: "
                "finish it with `simplenet-edge train --resume`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise WeightsError(f"{folder}: the training run is damaged ({error}); train again") from error
        return cls(folder, SimpleNet.load(folder), point, statistics, scores, record, golden)

    def save(self) -> None:
        """Write everything but TensorBoard's files; `calibration.json`, which marks a finished run, comes last."""
        self.model.save(self.folder)
        write_json(self.folder / TRAINING_NAME, self.record)
        write_bytes_atomic(self.folder / GOLDEN_NAME, npy_bytes(self.golden_frames))
        calibration = {
            "operating_point": to_dict(self.operating_point),
            "score_statistics": to_dict(self.score_statistics),
            "scores": self.calibration_scores,
        }
        write_json(self.folder / CALIBRATION_NAME, calibration)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write strict, indented JSON, whole or not at all."""
    write_bytes_atomic(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
