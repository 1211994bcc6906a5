"""INT8 of a run: trained once, on the same images, taken up where it was left."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from simplenet_edge.errors import DataError
from simplenet_edge.model.quantization import Quantizer, is_int8
from simplenet_edge.training.int8 import INT8_FOLDER, int8_run
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.run_folder import MARKER_NAME

pytestmark = pytest.mark.slow


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> TrainingRun:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder, ignore=shutil.ignore_patterns(INT8_FOLDER))
    return TrainingRun.load(folder)


def test_the_head_is_trained_on_the_quantised_backbone(run: TrainingRun) -> None:
    told: list[str] = []
    stages: set[str] = set()
    found = int8_run(run, told.append, lambda stage, done, total: stages.add(stage))
    assert is_int8(found.model.backbone.body)
    assert not is_int8(run.model.backbone.body)
    assert found.record.split == run.record.split
    assert found.record.train == run.record.train
    assert found.record.backbone_sha256 != run.record.backbone_sha256
    assert not torch.equal(found.model.standardizer.mean, run.model.standardizer.mean)
    assert found.operating_point.threshold != run.operating_point.threshold
    assert found.operating_point.n_calibration == run.operating_point.n_calibration
    assert stages >= {"int8, features", "int8, calibration"}
    assert any("quantising" in line for line in told)
    assert not (found.folder / "features").exists()

    told.clear()
    again = int8_run(TrainingRun.load(run.folder), told.append)
    assert told == []
    assert again.calibration_scores == found.calibration_scores


def test_int8_of_another_training_in_the_same_folder_is_made_anew(run: TrainingRun) -> None:
    int8_run(run)
    (run.folder / INT8_FOLDER / MARKER_NAME).write_text("another")
    told: list[str] = []
    int8_run(run, told.append)
    assert told


def test_all_scales_come_from_the_images(run: TrainingRun) -> None:
    scales = [float(m.scale) for m in int8_run(run).model.backbone.body.modules() if isinstance(m, Quantizer)]
    assert len(scales) > 5
    assert all(0 < scale < 10 for scale in scales)
    assert 1.0 not in scales


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": ("gone.png",)}, "are gone, such as gone.png"),
        ({"train_fingerprint": "0"}, "not the ones"),
        ({"train": ()}, "does not say where its train images are"),
    ],
)
def test_images_that_are_gone_or_changed_are_refused(run: TrainingRun, change: dict[str, object], words: str) -> None:
    assert run.record.sources is not None
    sources = dataclasses.replace(run.record.sources, **change)  # type: ignore[arg-type]
    broken = dataclasses.replace(run, record=dataclasses.replace(run.record, sources=sources))
    with pytest.raises(DataError, match=words):
        int8_run(broken)
    assert not (run.folder / INT8_FOLDER).exists()
