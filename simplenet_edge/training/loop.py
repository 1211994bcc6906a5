"""The training of the two small networks on cached features: epochs, learning rates, checkpoints, and when to stop.

In: a `FeatureCache`, rows float16 `(N, D)`. The model is trained in place; `checkpoint.pt` in the run's folder holds
what the next meta-epoch depends on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from simplenet_edge.files import write_bytes
from simplenet_edge.model.int8 import round_head
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnLoss, Progress, ignore_loss
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.coreset import build_memory, calibrate_memory_weight
from simplenet_edge.training.features import FeatureCache, whitening
from simplenet_edge.training.step import MarginTrainer, NoiseConfig, StepResult
from simplenet_edge.training.tensorboard import TensorBoardLogger

__all__ = ["CHECKPOINT_NAME", "TENSORBOARD_NAME", "AfterMetaEpoch", "TrainingState", "set_statistics", "train_networks"]

AfterMetaEpoch = Callable[[SimpleNet, int], None]
"""Shown the model, in evaluation mode, and how many meta-epochs are done; each once, or again where a run resumed."""

_log = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.pt"
TENSORBOARD_NAME = "tensorboard"
_DIGEST_BYTES = hashlib.sha256().digest_size
_MEMORY_SHARE = 1 / 3  # of a time budget
_PROGRESS = 0.99  # a loss below this share of the lowest before is progress


def set_statistics(model: SimpleNet, cache: FeatureCache, shrinkage: float | None) -> None:
    """Give a model the statistics of its training features, and its projection the whitening to start from."""
    if not model.config.standardize:
        return
    model.standardizer.mean.copy_(torch.from_numpy(cache.mean))
    model.standardizer.std.copy_(torch.from_numpy(cache.std))
    first = next((module for module in model.pre_projection.modules() if isinstance(module, torch.nn.Linear)), None)
    if shrinkage is not None and first is not None:
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(whitening(cache.correlation, shrinkage)))
            first.bias.zero_()


class _Clock:
    """Time since training of the networks began, in seconds and as a share of the budget, 0 where there is none."""

    def __init__(self, budget_s: float | None) -> None:
        self._start = time.perf_counter()
        self._budget_s = budget_s

    def passed_s(self) -> float:
        return time.perf_counter() - self._start

    def share(self, seconds: float) -> float:
        return 0.0 if self._budget_s is None else seconds / max(self._budget_s, 1e-9)


@dataclass(frozen=True)
class TrainingState:
    """How far training has come, and why it ended."""

    meta_epochs: int = 0
    step: int = 0
    last_epoch: StepResult | None = None
    best_loss: float = math.inf  # the lowest mean loss of a meta-epoch that counted as progress
    epochs_without_improvement: int = 0  # meta-epochs since that one
    stop_reason: str = "all epochs done"

    def after(self, step: int, last_epoch: StepResult, loss: float) -> TrainingState:
        """The state after one more meta-epoch, of mean loss `loss`."""
        better = loss < _PROGRESS * self.best_loss
        best, waited = (loss, 0) if better else (self.best_loss, self.epochs_without_improvement + 1)
        return TrainingState(self.meta_epochs + 1, step, last_epoch, best, waited)


def train_networks(
    model: SimpleNet,
    cache: FeatureCache,
    config: TrainConfig,
    folder: Path,
    key: str,
    *,
    report: Progress,
    on_loss: OnLoss = ignore_loss,
    after_meta_epoch: AfterMetaEpoch | None = None,
    budget_s: float | None = None,
) -> TrainingState:
    """Train until the epochs are done, the loss stands still, or another meta-epoch would take longer than `budget_s`.

    With a checkpoint of the same `key` in `folder`, go on from there. The model ends in evaluation mode.
    """
    began = time.perf_counter()
    set_statistics(model, cache, config.whitening)
    build_memory(
        model,
        cache,
        config.seed,
        limit_s=None if budget_s is None else _MEMORY_SHARE * budget_s,
        progress=report,
    )
    trainer = MarginTrainer(
        model,
        noise=NoiseConfig(config.noise_std, config.mix_noise),
        margin=config.margin,
        discriminator_lr=config.discriminator_lr,
        projection_lr=config.projection_lr,
        weight_decay=config.weight_decay,
    )
    state = _load_checkpoint(folder / CHECKPOINT_NAME, key, trainer)
    total = config.meta_epochs * config.gan_epochs
    clock = _Clock(None if budget_s is None else budget_s - (time.perf_counter() - began))
    longest = 0.0
    model.train()
    with TensorBoardLogger(folder / TENSORBOARD_NAME, state.step) as log:
        for meta_epoch in range(state.meta_epochs, config.meta_epochs):
            if config.patience is not None and state.epochs_without_improvement >= config.patience:
                state = dataclasses.replace(state, stop_reason="the loss stood still")
                break
            started = clock.passed_s()
            if longest > 0 and clock.share(started + longest) > 1:
                state = dataclasses.replace(state, stop_reason="the time budget was over")
                break
            losses = []
            for epoch in range(meta_epoch * config.gan_epochs, (meta_epoch + 1) * config.gan_epochs):
                last = _epoch(trainer, cache, config, epoch, log, clock)
                losses.append(last.loss)
                log.scalars(**dataclasses.asdict(last))
                on_loss(last.loss)
                report("training", epoch + 1, total)
            if after_meta_epoch is not None:
                calibrate_memory_weight(model.eval(), cache, config.memory_weight, config.seed)
                after_meta_epoch(model, meta_epoch + 1)
                model.train()
            state = state.after(log.global_step, last, float(np.mean(losses)))
            _save_checkpoint(folder / CHECKPOINT_NAME, key, trainer, state)
            longest = max(longest, clock.passed_s() - started)
    model.eval()
    if model.head_quantizer is not None:
        round_head(model)
    calibrate_memory_weight(model, cache, config.memory_weight, config.seed)
    return state


def _epoch(
    trainer: MarginTrainer,
    cache: FeatureCache,
    config: TrainConfig,
    epoch: int,
    log: TensorBoardLogger,
    clock: _Clock,
) -> StepResult:
    """One pass; its randomness depends on the seed and the epoch's number only, so that a resumed run repeats it."""
    n_rows = len(cache.rows)
    order = np.random.default_rng((config.seed, epoch)).permutation(n_rows)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0]))
    size = min(config.batch_patches, n_rows)
    steps = min(n_rows // size, config.steps_per_epoch or n_rows)
    device = trainer.model.pixel_mean.device
    total = config.meta_epochs * config.gan_epochs * steps
    results = []
    for i in range(steps):
        done = max((epoch * steps + i) / total, clock.share(clock.passed_s()))
        trainer.scale_learning_rates(_lr_share(min(done, 1.0), config.final_lr_share))
        batch = cache.batch(order[i * size : (i + 1) * size]).to(device)
        results.append(trainer.step(batch, generator))
        log.global_step += 1
    means = np.mean([dataclasses.astuple(result) for result in results], axis=0)
    return StepResult(*(float(value) for value in means))


def _lr_share(done: float, final: float) -> float:
    """Half a cosine from 1 at the start to `final` at the end; `done` is within 0..1."""
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def _save_checkpoint(path: Path, key: str, trainer: MarginTrainer, state: TrainingState) -> None:
    """SHA-256, 32 bytes, of what follows: PyTorch's own format."""
    buffer = io.BytesIO()
    torch.save({"key": key, "state": dataclasses.asdict(state), "trainer": trainer.state_dict()}, buffer)
    write_bytes(path, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def _load_checkpoint(path: Path, key: str, trainer: MarginTrainer) -> TrainingState:
    """How far the checkpoint's training came, taken up by `trainer`; the start where there is no such checkpoint."""
    if not path.is_file():
        return TrainingState()
    data = path.read_bytes()
    if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
        _log.warning("%s is damaged, or of another version; training starts again", path)
        return TrainingState()
    device = trainer.model.pixel_mean.device
    saved = torch.load(io.BytesIO(data[_DIGEST_BYTES:]), map_location=device, weights_only=True)
    if saved["key"] != key:
        return TrainingState()
    trainer.load_state_dict(saved["trainer"])
    state = saved["state"]
    return TrainingState(**{**state, "last_epoch": StepResult(**state["last_epoch"])})
