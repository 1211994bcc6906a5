"""Train a model on images of good parts, from a person's options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simplenet_edge.data.groups import labels_by_name
from simplenet_edge.data.layouts import Sample
from simplenet_edge.files import disk_errors, require_writable
from simplenet_edge.progress import OnLoss, OnMessage, Progress, ignore, ignore_loss, ignore_message
from simplenet_edge.training import trainer
from simplenet_edge.training.int8 import int8_run
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import base_config, prepare
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.run_folder import refuse_folder
from simplenet_edge.workflows.model_choice import with_model

__all__ = ["train"]


def train(
    good: Sequence[Sample],
    folder: Path,
    options: TrainingOptions | None = None,
    *,
    seed: int = 0,
    resume: bool = False,
    int8: bool = False,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
    on_loss: OnLoss = ignore_loss,
) -> TrainingRun:
    """Train on samples of good parts and write the run into `folder`; some of them are held out for the threshold.

    What `options` leave to the images, the input size or the model within a latency, is found first (`with_model`).
    With `int8` the head is then trained once more, on the backbone in INT8 (`int8_run`), so that an export has it.
    `seed` draws split, networks, noise and order; with `resume`, an interrupted run in `folder` goes on. `on_message`
    is told what was found and what is odd about the images, `on_loss` the loss of each epoch. Raises ConfigError,
    DataError or WeightsError: what `with_model`, `prepare` and `trainer.train` raise.
    """
    options = options or TrainingOptions()
    refuse_folder(folder, resume)
    labels_by_name(good, options.group)  # all that can't work is refused before the search begins
    base_config(options, seed)
    require_writable(next(place for place in (folder, *folder.absolute().parents) if place.is_dir()))
    with disk_errors(folder):
        options = with_model(good, options, folder, progress=progress, on_message=on_message)
    model, config = prepare(options, seed)
    run = trainer.train(
        model, good, config, folder, resume=resume, progress=progress, on_message=on_message, on_loss=on_loss
    )
    if int8:
        int8_run(run, on_message, progress, on_loss)
    return run
