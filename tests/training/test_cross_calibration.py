"""Few parts: all are trained on, and each is judged by a model that had not seen it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import ConfigError
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.threshold import guarantee_text
from simplenet_edge.training.calibration import calibration_scores
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.cross_calibration import wants_folds
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.trainer import train
from tests.runs import SIZE, write_parts

CONFIG = TrainConfig(
    meta_epochs=1, gan_epochs=2, steps_per_epoch=2, batch_patches=64, alpha=0.1, folds=2, augment=AugmentConfig()
)


def new_model() -> SimpleNet:
    return build_simplenet("resnet18", random_weights=True, size_hw=(SIZE, SIZE), memory_size=50)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return load_dataset(write_parts(tmp_path_factory.mktemp("few") / "parts")).train[:10]


@pytest.fixture(scope="module")
def run(good: tuple[Sample, ...], tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    return train(new_model(), good, CONFIG, tmp_path_factory.mktemp("run") / "run")


@pytest.mark.parametrize(
    ("n_images", "n_parts", "config", "wanted"),
    [
        (20, 20, TrainConfig(alpha=0.01), True),
        (20, 20, TrainConfig(alpha=0.1), False),  # nine of them are enough, and may be held out
        (150, 150, TrainConfig(alpha=0.01), True),
        (151, 151, TrainConfig(alpha=0.01), False),  # more images, more time
        (100, 1, TrainConfig(alpha=0.01), False),  # nothing to hold out
        (20, 20, TrainConfig(alpha=0.01, folds=0), False),
        (20, 20, TrainConfig(alpha=0.01, budget_s=60.0), False),
    ],
)
def test_when_it_is_worth_it(n_images: int, n_parts: int, config: TrainConfig, wanted: bool) -> None:
    assert wants_folds(n_images, n_parts, config) == wanted


def test_one_fold_is_none() -> None:
    with pytest.raises(ConfigError, match="folds must be at least 2"):
        TrainConfig(folds=1)


@pytest.mark.slow
def test_all_images_are_trained_on_and_judged_by_a_model_without_them(
    run: TrainingRun, good: tuple[Sample, ...]
) -> None:
    names = {sample.name for sample in good}
    assert set(run.record.split.train) == set(run.record.split.calibration) == names == set(run.calibration_scores)
    assert run.record.patches.images == 2 * len(good)
    point = run.operating_point
    assert (point.folds, point.n_parts, point.n_calibration, point.guaranteed) == (2, 10, 20, False)
    own = calibration_scores(run.model, good, run.model.input_spec).scores  # of images that it was trained on
    assert np.mean([run.calibration_scores[name] - own[name] for name in names]) > 0
    assert "judged by one of 2 models that had not seen it" in guarantee_text(point)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fold 1 of 2, training", "fold 2 of 2, calibration", "training"])
def test_an_interrupted_run_comes_to_the_same_bits(
    run: TrainingRun, good: tuple[Sample, ...], tmp_path: Path, stage: str
) -> None:
    def interrupt(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(new_model(), good, CONFIG, tmp_path / "run", progress=interrupt)
    again = train(new_model(), good, CONFIG, tmp_path / "run", resume=True)
    assert again.calibration_scores == run.calibration_scores
    assert again.operating_point == run.operating_point
    assert not (tmp_path / "run" / "folds").exists()


@pytest.mark.slow
def test_with_more_parts_some_are_held_out(good: tuple[Sample, ...], tmp_path: Path) -> None:
    held_out = train(new_model(), good, dataclasses.replace(CONFIG, alpha=0.3), tmp_path / "run")
    assert held_out.operating_point.folds is None
    assert not set(held_out.record.split.train) & set(held_out.record.split.calibration)
    assert held_out.operating_point.n_calibration == 2 * len(held_out.record.split.calibration)  # in other light too
