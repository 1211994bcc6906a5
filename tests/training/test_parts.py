"""Training on several pictures of a part: what is split, guaranteed, recorded and found again among test images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.data.layouts import Dataset, load_dataset
from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.export.precision.calibration import calibration_images
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.threshold import conformal_threshold
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.parts import parts_in_training
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.trainer import train
from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact
from simplenet_edge.workflows.sweep import sweep
from tests.data.test_near_duplicates import lit, texture

pytestmark = pytest.mark.slow

N_PARTS, PICTURES = 30, 3


def write_pictures(folder: Path, parts: Sequence[int], pictures: int, seed: int) -> None:
    """Pictures of parts in changing light, `part07_1.png`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for part in parts:
        for number in range(pictures):
            cv2.imwrite(str(folder / f"part{part:02}_{number}.png"), lit(texture(part, 30), rng))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("pictures") / "set"
    write_pictures(root / "train" / "good", range(N_PARTS), PICTURES, seed=0)
    write_pictures(root / "test" / "good", [3, 50, 51, 52, 7], 1, seed=1)
    write_pictures(root / "test" / "scratch", [53, 8], 1, seed=2)
    return load_dataset(root)


SEEN = ("test/good/part03_0.png", "test/good/part07_0.png", "test/scratch/part08_0.png")


def trained(
    pictures: Dataset, folder: Path, group: str = "auto", resume: bool = False
) -> tuple[TrainingRun, list[str]]:
    model = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64))
    config = TrainConfig(meta_epochs=1, gan_epochs=1, steps_per_epoch=2, batch_patches=128, alpha=0.2, group=group)
    messages: list[str] = []
    run = train(model, pictures.train, config, folder, resume=resume, on_message=messages.append)
    return run, [message for message in messages if message.startswith("parts:")]


@pytest.fixture(scope="module")
def auto(pictures: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, list[str]]:
    return trained(pictures, tmp_path_factory.mktemp("auto") / "run")


def part_of(name: str) -> str:
    return name.rpartition("part")[2][:2]


def test_parts_are_found_split_and_counted(auto: tuple[TrainingRun, list[str]]) -> None:
    run, messages = auto
    split, point = run.record.split, run.operating_point
    train_parts, calibration_parts = ({part_of(name) for name in side} for side in (split.train, split.calibration))
    assert train_parts.isdisjoint(calibration_parts)
    assert len(calibration_parts) == 6  # a fifth of the parts
    assert (point.n_parts, point.n_calibration, point.guaranteed) == (6, 18, True)
    scores = np.array(list(run.calibration_scores.values()))
    expected = conformal_threshold(scores, 0.2, [part_of(name) for name in run.calibration_scores])
    assert dataclasses.replace(point, pixel_threshold=None) == expected
    assert len(messages) == 1
    assert f"{N_PARTS * PICTURES} images are of {N_PARTS} parts" in messages[0]
    assert "--group none" in messages[0]


def test_the_run_keeps_the_parts(auto: tuple[TrainingRun, list[str]]) -> None:
    run = TrainingRun.load(auto[0].folder)
    parts = run.record.parts
    assert parts is not None
    assert run.record == auto[0].record
    assert run.operating_point == auto[0].operating_point
    assert parts.rule == "auto"
    assert tuple(parts.train) == run.record.split.train
    assert tuple(parts.calibration) == run.record.split.calibration
    labels = {(part_of(name), label) for name, label in (*parts.train.items(), *parts.calibration.items())}
    assert len(labels) == N_PARTS
    assert calibration_images(run).parts == parts.calibration


def test_a_run_of_before_parts_is_read(auto: tuple[TrainingRun, list[str]], tmp_path: Path, pictures: Dataset) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for file in auto[0].folder.iterdir():
        if file.is_file() and file.name != "descriptors.npy":
            (folder / file.name).write_bytes(file.read_bytes())
    record = json.loads((folder / "training.json").read_text())
    del record["parts"]
    (folder / "training.json").write_text(json.dumps(record))
    run = TrainingRun.load(folder)
    assert run.record.parts is None
    assert parts_in_training(run, pictures.test) is None
    assert calibration_images(run).parts == {}


@pytest.mark.parametrize("group", ["auto", r"part(\d+)_"])
def test_test_images_of_trained_parts_are_named(
    group: str, auto: tuple[TrainingRun, list[str]], pictures: Dataset, tmp_path: Path
) -> None:
    run = auto[0] if group == "auto" else trained(pictures, tmp_path / "run", group)[0]
    assert parts_in_training(run, pictures.test) == SEEN
    result, report = evaluate_artifact(run.folder, pictures, tmp_path / "evaluation")
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["parts_in_training"] == list(SEEN)
    warning = result.parts_warning()
    assert warning is not None
    assert "3 of 7 test images show parts that are in training too, such as test/good/part03_0.png" in warning
    assert "show parts that are in training too" in report.read_text()


def test_a_sweep_says_each_time_that_parts_are_in_training(pictures: Dataset, tmp_path: Path) -> None:
    def prepare(dataset: Dataset, seed: int) -> tuple[SimpleNet, TrainConfig]:
        model = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64), seed=seed)
        return model, TrainConfig(
            meta_epochs=1, gan_epochs=1, steps_per_epoch=2, batch_patches=128, alpha=0.2, seed=seed
        )

    for _ in range(2):
        messages: list[str] = []
        sweep([pictures], prepare, tmp_path / "sweep", seeds=1, on_message=messages.append)
        assert sum("3 of 7 test images show parts that are in training too" in message for message in messages) == 1


def test_test_parts_of_their_own_are_no_matter(
    auto: tuple[TrainingRun, list[str]], pictures: Dataset, tmp_path: Path
) -> None:
    own = dataclasses.replace(pictures, test=tuple(one for one in pictures.test if one.name not in SEEN))
    result, report = evaluate_artifact(auto[0].folder, own, tmp_path / "evaluation")
    assert result.parts_in_training == ()
    assert result.parts_warning() is None
    assert "in training too" not in report.read_text()


def test_every_image_a_part_of_its_own(pictures: Dataset, tmp_path: Path) -> None:
    run, messages = trained(pictures, tmp_path / "run", "none")
    assert messages == []
    assert run.operating_point.n_parts is None
    assert run.descriptors is None
    assert parts_in_training(run, pictures.test) is None
    assert "n_parts" not in (run.folder / "calibration.json").read_text()


def test_a_list_is_part_of_the_run(
    pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = (*pictures.train, *pictures.test)
    rows = [f"{sample.name},{part_of(sample.name)}" for sample in samples]
    Path("parts.csv").write_text("\n".join(["image,part", *rows]))
    run, _ = trained(pictures, tmp_path / "run", "parts.csv")
    monkeypatch.chdir("/")
    assert parts_in_training(run, pictures.test) == SEEN
    monkeypatch.chdir(tmp_path)
    trained(pictures, tmp_path / "run", "parts.csv", resume=True)
    Path("parts.csv").write_text("\n".join(["image,part", *rows]).replace(",03", ",04"))
    with pytest.raises(ConfigError, match="another run"):
        trained(pictures, tmp_path / "run", "parts.csv", resume=True)
    Path("parts.csv").unlink()
    assert parts_in_training(run, pictures.test) is None
    assert "is not known" in caplog.text


def test_a_file_name_that_a_trained_image_has_is_no_match(pictures: Dataset, tmp_path: Path) -> None:
    rows = [f"{Path(sample.name).name},{part_of(sample.name)}" for sample in pictures.train]
    (tmp_path / "parts.csv").write_text("\n".join(["image,part", *rows]))
    run, _ = trained(pictures, tmp_path / "run", str(tmp_path / "parts.csv"))
    named_alike = tuple(
        dataclasses.replace(one, name=f"test/good/part{i:02}_0.png") for i, one in enumerate(pictures.test)
    )
    assert parts_in_training(run, named_alike) == ()


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", "short"])
def test_damaged_descriptors_are_refused(
    damage: bytes | str, auto: tuple[TrainingRun, list[str]], pictures: Dataset, tmp_path: Path
) -> None:
    run = dataclasses.replace(auto[0], folder=tmp_path)
    file = auto[0].folder / "descriptors.npy"
    (tmp_path / file.name).write_bytes(file.read_bytes()[:-2] if isinstance(damage, str) else damage)
    with pytest.raises(WeightsError, match=r"descriptors\.npy is damaged .*train again, or remove it"):
        parts_in_training(run, pictures.test)


def test_other_calibration_images_are_looked_over_too(auto: tuple[TrainingRun, list[str]], tmp_path: Path) -> None:
    write_pictures(tmp_path / "good", range(60, 90), 2, seed=3)
    images = calibration_images(auto[0], tmp_path / "good")
    assert len(set(images.parts.values())) == 30
