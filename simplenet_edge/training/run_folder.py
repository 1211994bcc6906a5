"""The folder of a training run: whose it is, what may lie in it before, and who may write in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simplenet_edge.errors import ConfigError
from simplenet_edge.files import disk_errors, lock
from simplenet_edge.training.loop import CHECKPOINT_NAME, TENSORBOARD_NAME
from simplenet_edge.training.run import CALIBRATION_NAME

__all__ = [
    "INPUT_NAME",
    "MARKER_NAME",
    "MODEL_CHOICE_NAME",
    "MODEL_CHOICE_PICTURE",
    "claimed",
    "refuse_folder",
]

INPUT_NAME, MODEL_CHOICE_NAME, MODEL_CHOICE_PICTURE = "input.json", "model_choice.json", "model_choice.svg"
"""How the input size or the model of a run was found; these may lie in the folder before the run does."""

MARKER_NAME = "run.key"
"""What must be equal for a run to go on."""


def refuse_folder(folder: Path, resume: bool) -> None:
    """Raise ConfigError where `folder` holds something else, another process trains in it, or it holds a run to go on
    with that was not asked for.
    """
    _refuse_foreign(folder)
    if (folder / MARKER_NAME).is_file():
        with disk_errors(folder), lock(folder / MARKER_NAME):
            _refuse_begun(folder, resume)


def _refuse_foreign(folder: Path) -> None:
    if not folder.is_dir() or (folder / MARKER_NAME).is_file():
        return
    if {path.name for path in folder.iterdir()} - {INPUT_NAME, MODEL_CHOICE_NAME, MODEL_CHOICE_PICTURE}:
        raise ConfigError(f"{folder} is not empty and is no training run; name another folder")


def _refuse_begun(folder: Path, resume: bool) -> None:
    if not resume and any((folder / name).is_file() for name in (CALIBRATION_NAME, CHECKPOINT_NAME)):
        raise ConfigError(f"{folder} is not empty; name another folder, or pass --resume to go on with that run")


@contextmanager
def claimed(folder: Path, key: str, resume: bool) -> Iterator[bool]:
    """Hold `folder` as this run's own; True where the run is finished already. Raises ConfigError or DataError.

    A training that failed or was stopped before its first checkpoint leaves nothing that is worth keeping: its folder
    is taken as if it were empty.
    """
    _refuse_foreign(folder)
    marker = folder / MARKER_NAME
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with lock(marker):
        for left in folder.glob(".*.tmp"):  # of a write that was killed
            left.unlink()
        _refuse_begun(folder, resume)
        finished = (folder / CALIBRATION_NAME).is_file()
        if finished or (folder / CHECKPOINT_NAME).is_file():
            if marker.read_text(encoding="utf-8", errors="replace") != key:
                raise ConfigError(
                    f"{folder} holds another run (other images, options, weights or version); name another folder"
                )
        else:
            shutil.rmtree(folder / TENSORBOARD_NAME, ignore_errors=True)
            marker.write_text(key, encoding="utf-8")
        yield finished
