"""INT8 of a training run: quantise its backbone first, then let the head learn on what the quantised backbone gives."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from simplenet_edge.data.augment import augmented_frames
from simplenet_edge.data.reading import Split, batched, fitting_batch, read_frames
from simplenet_edge.data.samples import Sample
from simplenet_edge.model.int8 import int8_model
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnLoss, OnMessage, Progress, ignore, ignore_loss, ignore_message
from simplenet_edge.spec import Frames, to_dict
from simplenet_edge.training.run import CALIBRATION_NAME, TrainingRun
from simplenet_edge.training.run_folder import MARKER_NAME
from simplenet_edge.training.trainer import retrain

__all__ = ["INT8_FOLDER", "int8_run"]

INT8_FOLDER = "int8"
"""The run whose head learned in INT8, inside the run that it is of."""

_IMAGES = 32  # that scales and biases come from, with their extra frames; more change them little
_BATCH = 8
_FORM = "2"  # of what is rounded, and how: with another one a run is trained anew


def int8_run(
    run: TrainingRun,
    on_message: OnMessage = ignore_message,
    progress: Progress = ignore,
    on_loss: OnLoss = ignore_loss,
) -> TrainingRun:
    """The run of the same recipe and images on the backbone of `run` in INT8, trained where it is not there yet.

    It lies in `run`'s folder under `INT8_FOLDER` and is a run like any other; an interrupted one goes on. The backbone
    is calibrated on training images. Training is on the GPU that `run` was trained on, where that is here, otherwise on
    the CPU. Raises ConfigError for a backbone without a convolution, DataError where the images are gone or changed.
    """
    folder, key = run.folder / INT8_FOLDER, _key(run)
    marker = folder / MARKER_NAME
    if marker.is_file():
        if marker.read_text(encoding="utf-8", errors="replace") != key:  # of another training in the same folder
            shutil.rmtree(folder)
        elif (folder / CALIBRATION_NAME).is_file():
            return TrainingRun.load(folder)
    on_message("int8: quantising the backbone")
    split = Split(run.images("train"), run.images("calibration"))
    model = _quantized_model(run, split.train)
    on_message("int8: training the head on the quantised backbone")

    def report(stage: str, done: int, total: int) -> None:
        progress(f"int8, {stage}", done, total)

    return retrain(run, model, split, folder, key, progress=report, on_loss=on_loss)


def _key(run: TrainingRun) -> str:
    """What must be equal for INT8 of a run to go on."""
    model, record = run.model, run.record
    parts = (to_dict(model.config), to_dict(model.input_spec), record.train, record.data_fingerprint)
    text = json.dumps([*parts, record.backbone_sha256, record.split, _FORM], sort_keys=True, default=vars)
    return hashlib.sha256(text.encode()).hexdigest()


def _quantized_model(run: TrainingRun, images: Sequence[Sample]) -> SimpleNet:
    """A model like that of the run, on its backbone in INT8, with new networks from the run's seed."""
    source, augment, seed = run.model, run.record.augment, run.record.train["seed"]
    device = "cuda" if torch.cuda.is_available() and torch.cuda.get_device_name() == run.record.device else "cpu"
    chosen = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, _IMAGES).round().astype(int))]
    frames: Iterable[Frames] = (read.frame for read in read_frames(chosen, source.input_spec))
    if augment is not None:
        frames = augmented_frames(frames, augment, seed)
    read = list(frames)

    def batches() -> Iterator[Tensor]:
        for batch in batched(read, fitting_batch(_BATCH, source.input_spec.size_hw)):
            yield source.normalize(torch.from_numpy(np.stack(batch)).to(device))

    source.to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = int8_model(source, batches)
    source.to("cpu")
    return model
