"""Training from files to a finished run: repeatable, resumable, honest about what it read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from simplenet_edge.data.layouts import Dataset, load_dataset
from simplenet_edge.data.reading import read_frames
from simplenet_edge.errors import ConfigError
from simplenet_edge.model import embedder
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import Progress
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.recipes import paper_recipe
from simplenet_edge.training.run import TrainingRecord, TrainingRun
from simplenet_edge.training.trainer import train
from tests.runs import SIZE, write_parts

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(meta_epochs=3, gan_epochs=2, steps_per_epoch=2, batch_patches=64, alpha=0.3)


def new_model(variant: Literal["edge", "paper"] = "edge") -> SimpleNet:
    return build_simplenet("resnet18", random_weights=True, size_hw=(SIZE, SIZE), variant=variant)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_parts(tmp_path_factory.mktemp("training") / "parts"))


@pytest.fixture(scope="module")
def unbroken(parts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    return train(new_model(), parts.train, CONFIG, tmp_path_factory.mktemp("unbroken") / "run")


def interrupt_at(stage: str, number: int) -> Progress:
    def progress(now: str, done: int, total: int) -> None:
        if (now, done) == (stage, number):
            raise KeyboardInterrupt

    return progress


def assert_same(run: TrainingRun, other: TrainingRun) -> None:
    states = run.model.state_dict(), other.model.state_dict()
    assert states[0].keys() == states[1].keys()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    assert run.calibration_scores == other.calibration_scores
    assert run.operating_point == other.operating_point
    np.testing.assert_array_equal(run.golden_frames, other.golden_frames)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("features", 8),  # before anything is worth keeping
        ("training", 1),  # in the first meta-epoch: features are there, no checkpoint is
        ("training", 5),  # in the last one
        ("calibration", 2),  # with the networks trained
    ],
)
def test_interrupted_run_comes_to_the_bits_of_an_unbroken_one(
    parts: Dataset, unbroken: TrainingRun, tmp_path: Path, stage: str, number: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(new_model(), parts.train, CONFIG, folder, progress=interrupt_at(stage, number))
    run = train(new_model(), parts.train, CONFIG, folder, resume=True)
    assert_same(run, unbroken)
    assert not (folder / "features").exists()
    assert not (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize(("stage", "number"), [("features", 8), ("training", 1), ("calibration", 1)])
def test_a_run_in_onnx_runtime_comes_to_the_same_bits(
    parts: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: int
) -> None:
    monkeypatch.setattr(embedder, "EXPORT_PIXELS", 0)
    config = replace(CONFIG, meta_epochs=1)

    def mobile() -> SimpleNet:
        return build_simplenet("mobilenet_v2", random_weights=True, size_hw=(SIZE, SIZE), memory_size=50)

    whole = train(mobile(), parts.train, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(mobile(), parts.train, config, tmp_path / "run", progress=interrupt_at(stage, number))
    assert_same(train(mobile(), parts.train, config, tmp_path / "run", resume=True), whole)


def test_finished_run_is_returned_as_it_is(parts: Dataset, unbroken: TrainingRun) -> None:
    before = (unbroken.folder / "model.safetensors").stat().st_mtime_ns
    again = train(new_model(), parts.train, CONFIG, unbroken.folder, resume=True, progress=interrupt_at("features", 8))
    assert_same(again, unbroken)
    assert (unbroken.folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("changed", ["config", "weights", "data"])
def test_another_run_in_the_folder_is_refused(parts: Dataset, unbroken: TrainingRun, changed: str) -> None:
    model = build_simplenet("resnet18", random_weights=True, size_hw=(SIZE, SIZE), seed=int(changed == "weights"))
    config = replace(CONFIG, noise_std=0.7) if changed == "config" else CONFIG
    good = parts.train[1:] if changed == "data" else parts.train
    with pytest.raises(ConfigError, match="another run"):
        train(model, good, config, unbroken.folder, resume=True)


def test_without_resume_a_folder_with_anything_in_it_is_refused(parts: Dataset, unbroken: TrainingRun) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        train(new_model(), parts.train, CONFIG, unbroken.folder)


def test_record_says_what_is_needed_to_repeat_the_run(parts: Dataset, unbroken: TrainingRun) -> None:
    record = json.loads((unbroken.folder / "training.json").read_text(encoding="utf-8"))
    assert TrainingRecord.from_dict(record) == unbroken.record
    assert TrainingRun.load(unbroken.folder).record == unbroken.record
    assert record["train"]["seed"] == 0
    assert set(record["split"]["train"]) | set(record["split"]["calibration"]) == {s.name for s in parts.train}
    assert set(record["split"]["train"]).isdisjoint(record["split"]["calibration"])
    assert (record["meta_epochs"], record["ended"]) == (3, "all epochs done")
    assert set(record["seconds"]) == {"extraction", "training", "calibration"}
    assert {"python", "torch", "torchvision", "numpy"} <= set(record["versions"])
    assert record["threads"] == torch.get_num_threads()
    assert len(record["backbone_sha256"]) == len(record["data_fingerprint"]) == 64


def test_no_test_image_is_read(parts: Dataset, unbroken: TrainingRun, tmp_path: Path) -> None:
    """The same run comes out where the test folder doesn't exist at all."""
    root = tmp_path / "parts"
    for sample in parts.train:
        target = root / "train" / "good" / sample.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sample.path.read_bytes())
    alone = train(new_model(), load_dataset(root).train, CONFIG, tmp_path / "run")
    states = alone.model.state_dict(), unbroken.model.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert sorted(alone.calibration_scores.values()) == sorted(unbroken.calibration_scores.values())


def test_corrupt_images_are_left_out_and_listed(parts: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "parts" / "train" / "good"
    root.mkdir(parents=True)
    for sample in parts.train:
        (root / sample.path.name).write_bytes(sample.path.read_bytes())
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, and then nothing")
    config = replace(CONFIG, meta_epochs=1, max_corrupt_share=0.3)
    run = train(new_model(), load_dataset(tmp_path / "parts").train, config, tmp_path / "run")
    assert len(run.record.corrupt) == 1
    assert run.record.corrupt[0].startswith("broken.png: ")
    assert run.record.patches.images + len(run.calibration_scores) == len(parts.train)


def test_scalars_are_in_tensorboard(unbroken: TrainingRun) -> None:
    events = EventAccumulator(str(unbroken.folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "p_true", "p_fake"}
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == [2, 4, 6, 8, 10, 12]  # an entry an epoch of two steps
    assert losses[-1].value == pytest.approx(unbroken.record.last_epoch.loss)


def test_projection_starts_at_the_whitening(parts: Dataset, tmp_path: Path) -> None:
    """One step with hardly any learning rate: the projected training features are uncorrelated, of variance one."""
    config = replace(CONFIG, meta_epochs=1, gan_epochs=1, steps_per_epoch=1, projection_lr=1e-12, whitening=1e-4)
    model = new_model()
    run = train(model, parts.train, config, tmp_path / "run")
    seen = [sample for sample in parts.train if sample.name in run.record.split.train]
    frames = np.stack([read.frame for read in read_frames(seen, model.input_spec)])
    with torch.inference_mode():
        rows = model.project(model.embed(model.normalize(torch.from_numpy(frames)))).double().numpy()
    covariance = np.cov(rows, rowvar=False)
    np.testing.assert_allclose(
        covariance, np.diag(np.diagonal(covariance)), atol=0.2
    )  # rows are kept in half precision
    assert np.diagonal(covariance).max() < 1.1  # directions without variance stay below one


def test_paper_recipe_trains_on_raw_features(parts: Dataset, tmp_path: Path) -> None:
    model = new_model("paper")
    recipe = paper_recipe(CONFIG, model.grid_hw)
    assert (recipe.noise_std, recipe.meta_epochs, recipe.gan_epochs, recipe.steps_per_epoch) == (0.015, 40, 4, None)
    assert recipe.batch_patches == 8 * model.grid_hw[0] * model.grid_hw[1]
    assert (recipe.whitening, recipe.final_lr_share) == (None, 1.0)
    run = train(model, parts.train, replace(recipe, meta_epochs=1, gan_epochs=1), tmp_path / "run")
    assert torch.equal(run.model.standardizer.mean, torch.zeros_like(run.model.standardizer.mean))
    assert torch.equal(run.model.standardizer.std, torch.ones_like(run.model.standardizer.std))


def test_a_whole_frame_is_inspected_at_full_resolution_without_tiles(parts: Dataset, tmp_path: Path) -> None:
    """The backbone is convolutional: a large frame that is not square is one frame, one at a time in memory."""
    model = build_simplenet("mobilenet_v2", random_weights=True, size_hw=(512, 768))
    told: list[tuple[str, int]] = []
    run = train(
        model,
        parts.train[:3],
        replace(CONFIG, meta_epochs=1, cache_bytes=2**20, folds=0),
        tmp_path / "run",
        progress=lambda stage, done, total: told.append((stage, done)),
    )
    assert [done for stage, done in told if stage == "features"] == [1, 2]
    assert model.grid_hw == (64, 96)
    assert run.golden_frames.shape == (1, 512, 768, 3)
    prediction = run.model.predict(run.golden_frames)
    assert prediction.map.shape == (1, 512, 768)
    assert prediction.score.tolist() == pytest.approx(list(run.calibration_scores.values()), rel=1e-5)


def test_training_ends_where_the_loss_stands_still(parts: Dataset, tmp_path: Path) -> None:
    config = replace(CONFIG, meta_epochs=40, patience=2, discriminator_lr=1e-12, projection_lr=1e-12)
    run = train(new_model(), parts.train, config, tmp_path / "run")
    assert run.record.ended == "the loss stood still"
    assert run.record.meta_epochs < 40


def test_spent_budget_leaves_one_image_and_one_meta_epoch(parts: Dataset, tmp_path: Path) -> None:
    run = train(new_model(), parts.train, replace(CONFIG, budget_s=1e-6), tmp_path / "run")
    assert run.record.ended == "the time budget was over"
    assert run.record.meta_epochs == 1
    assert 1 <= run.record.patches.images < 16
    assert TrainingRun.load(tmp_path / "run").operating_point == run.operating_point


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("meta_epochs", 0),
        ("batch_patches", 1),
        ("steps_per_epoch", 0),
        ("noise_std", 0.0),
        ("noise_std", float("nan")),
        ("alpha", 1.0),
        ("whitening", 0.0),
        ("budget_s", -1.0),
        ("patience", 0),
        ("final_lr_share", 1.1),
    ],
)
def test_impossible_choices_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(CONFIG, **{field: cast(Any, value)})
