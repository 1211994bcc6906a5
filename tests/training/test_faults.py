"""Full disks, kills, damaged files and a second process: a training ends in one clear error and can go on."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from simplenet_edge.data.layouts import Dataset
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.files import lock
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.trainer import train
from tests.faults import outcomes, small_disk
from tests.training.test_trainer import CONFIG, assert_same, interrupt_at, new_model, parts, unbroken

pytestmark = pytest.mark.slow

__all__ = ["parts", "unbroken"]  # fixtures


@pytest.fixture
def stopped(parts: Dataset, tmp_path: Path) -> Path:
    """The folder of a training that was stopped in its last meta-epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(new_model(), parts.train, CONFIG, tmp_path / "run", progress=interrupt_at("training", 5))
    return tmp_path / "run"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith("events.")}


@pytest.mark.parametrize(
    ("kib", "left"),
    [
        (300, {"run.key"}),  # no room for the features: the process would get a bus error when it writes to the map
        (900, {"run.key"}),  # none for what goes with them
        (5_000, {"run.key", "rows.npy", "correlation.npy", "features.json"}),  # none for the first checkpoint
        (12_000, {"run.key", "rows.npy", "correlation.npy", "features.json", "checkpoint.pt"}),  # none for the next
    ],
)
def test_a_full_disk_is_one_error_and_what_was_there_stays(
    parts: Dataset, unbroken: TrainingRun, tmp_path: Path, kib: int, left: set[str]
) -> None:
    with small_disk(tmp_path / "disk", kib) as disk:
        with pytest.raises(DataError, match=r"No space left on device.*free some space"):
            train(new_model(), parts.train, CONFIG, disk / "run")
        assert names(disk / "run") == left
        shutil.copytree(disk / "run", tmp_path / "run")
    assert_same(train(new_model(), parts.train, CONFIG, tmp_path / "run", resume=True), unbroken)


@pytest.mark.parametrize("damage", ["empty", "cut off", "zeros at the end", "one bit", "of another version"])
def test_a_damaged_checkpoint_starts_again_with_a_warning(
    parts: Dataset, unbroken: TrainingRun, stopped: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = stopped / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if damage == "one bit":
        data[random.Random(0).randrange(len(data))] ^= 4
    elif damage == "zeros at the end":  # what a file system leaves that knew the length and not the content
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    else:
        data = {"empty": bytearray(), "cut off": data[: len(data) // 3], "of another version": data[32:]}[damage]
    path.write_bytes(bytes(data))
    assert_same(train(new_model(), parts.train, CONFIG, stopped, resume=True), unbroken)
    assert "checkpoint.pt is damaged" in caplog.text


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_that_failed_before_its_first_checkpoint_leaves_its_folder_free(
    parts: Dataset, unbroken: TrainingRun, tmp_path: Path, resume: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(new_model("paper"), parts.train, CONFIG, tmp_path / "run", progress=interrupt_at("features", 8))
    assert_same(train(new_model(), parts.train, CONFIG, tmp_path / "run", resume=resume), unbroken)


def test_a_folder_with_a_checkpoint_or_with_other_files_is_not_taken(
    parts: Dataset, stopped: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="pass --resume to go on"):
        train(new_model(), parts.train, CONFIG, stopped)
    with pytest.raises(ConfigError, match="another run"):
        train(new_model("paper"), parts.train, CONFIG, stopped, resume=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").touch()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="not empty and is no training run"):
            train(new_model(), parts.train, CONFIG, tmp_path / "photos", resume=resume)
    assert names(tmp_path / "photos") == {"one.png"}


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_which_another_process_trains_is_refused(
    parts: Dataset, unbroken: TrainingRun, stopped: Path, resume: bool
) -> None:
    held = lock(stopped / "run.key")  # by an open file of its own, as another process has
    with held, pytest.raises(ConfigError, match="another process is at work"):
        train(new_model(), parts.train, CONFIG, stopped, resume=resume)
    assert_same(train(new_model(), parts.train, CONFIG, stopped, resume=True), unbroken)


def test_an_output_that_is_a_file_is_one_error(parts: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="can't be written"):
            train(new_model(), parts.train, CONFIG, place)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.slow
def test_a_training_killed_at_any_step_comes_to_the_same_bits() -> None:
    found = outcomes(Path(__file__).parents[1] / "kill_trainings.py", "7")  # with 1, all of about 65 steps
    assert found["different"] == 0
    assert found["same"] > 8
    assert found["same"] == found["killed"]
