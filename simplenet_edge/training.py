"""Train a SimpleNet on good parts: features once, then the two small networks, then the operating point.

In: samples of good parts. Out: a `TrainingRun` folder. No defect image and no test image is read here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simplenet_edge.adversarial import AdversarialTrainer, NoiseConfig, StepResult
from simplenet_edge.data import Sample, fingerprint, read_frames, split_good
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.features import FeatureCache, extract_features
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, to_dict
from simplenet_edge.tensorboard import TensorBoardLogger
from simplenet_edge.threshold import conformal_threshold, score_statistics
from simplenet_edge.training_run import CALIBRATION_NAME, TrainingRun

__all__ = ["Progress", "TrainConfig", "paper_recipe", "train"]

Progress = Callable[[str, int, int], None]
"""Told the stage's name, what is done and how much there is."""

_PAPER_BATCH_IMAGES = 8
_FEATURES_FOLDER = "features"
_CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are this project's recipe, made for standardised features of any backbone.

    `meta_epochs` x `gan_epochs` epochs, each a pass over all cached patches in shuffled batches of `batch_patches`, or
    `steps_per_epoch` of them where that is less. `noise_std` is in units of the projected features; `mix_noise` draws
    each row's scale from `noise_std * 1.1**k`, k below `mix_noise`. `alpha` is the false-reject rate that the threshold
    guarantees. `cache_bytes` limits the feature cache on disk. Learning rates and margin are the official code's.
    """

    meta_epochs: int = 10
    gan_epochs: int = 4
    batch_patches: int = 2048
    steps_per_epoch: int | None = 40
    noise_std: float = 0.25
    mix_noise: int = 1
    margin: float = 0.5
    discriminator_lr: float = 2e-4
    projection_lr: float = 1e-4
    weight_decay: float = 1e-5
    alpha: float = 0.01
    calibration_share: float = 0.2
    max_corrupt_share: float = 0.05
    cache_bytes: int = 8 * 2**30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("meta_epochs", "gan_epochs", "mix_noise", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_patches < 2:
            raise ConfigError(f"batch_patches must be at least 2 (batch norm needs two rows), not {self.batch_patches}")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise ConfigError(f"steps_per_epoch must be at least 1, not {self.steps_per_epoch}")
        for name in ("noise_std", "margin", "discriminator_lr", "projection_lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha must be between 0 and 1, not {self.alpha}")


def paper_recipe(config: TrainConfig, grid_hw: tuple[int, int]) -> TrainConfig:
    """The recipe of the paper: noise 0.015, 40 x 4 epochs over every patch; for a model that doesn't standardise.

    Two differences stay: batches hold as many patches as the paper's 8 images, but shuffled over all images, and the
    last model is kept where the official code keeps the one that is best on the test images.
    """
    return dataclasses.replace(
        config,
        meta_epochs=40,
        gan_epochs=4,
        noise_std=0.015,
        mix_noise=1,
        batch_patches=_PAPER_BATCH_IMAGES * grid_hw[0] * grid_hw[1],
        steps_per_epoch=None,
    )


def train(
    model: SimpleNet,
    good: Sequence[Sample],
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> TrainingRun:
    """Train `model` in place on samples of good parts and write the run into `folder`.

    With `resume`, an interrupted run in `folder` goes on where its last meta-epoch ended and, on a CPU, comes to the
    same bits as an unbroken one; a finished run is returned as it is. Raises ConfigError where `folder` holds another
    run, DataError for images that can't be used.
    """
    report = progress or (lambda stage, done, total: None)
    split = split_good(good, config.calibration_share, config.seed)
    data_fingerprint = fingerprint(good)
    key = _run_key(model, config, data_fingerprint)
    if _claim(folder, key, resume):
        return TrainingRun.load(folder)
    started = time.perf_counter()
    cache, corrupt = _features(model, split.train, config, folder / _FEATURES_FOLDER, key, report)
    extracted = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        last = _train_networks(model, cache, config, folder, key, report)
    trained = time.perf_counter()
    scores, corrupt_calibration = _calibration_scores(model, split.calibration, config, report)
    record = {
        "train": to_dict(config),
        "split": split.to_dict(),
        "corrupt": [f"{path.name}: {reason}" for path, reason in corrupt + corrupt_calibration],
        "data_fingerprint": data_fingerprint,
        "patches": {"images": cache.n_images, "rows": len(cache.rows)},
        "last_epoch": last,
        "seconds": {"extraction": extracted - started, "training": trained - extracted},
        "versions": _versions(),
    }
    values = np.array(list(scores.values()))
    run = TrainingRun(
        folder,
        model.eval(),
        conformal_threshold(values, config.alpha),
        score_statistics(values),
        scores,
        record,
        _golden_frames(model, split.calibration, scores),
    )
    run.save()
    shutil.rmtree(folder / _FEATURES_FOLDER, ignore_errors=True)
    (folder / _CHECKPOINT_NAME).unlink(missing_ok=True)
    return run


def _run_key(model: SimpleNet, config: TrainConfig, data_fingerprint: str) -> str:
    """What must be equal for a run to go on: model, backbone weights, recipe and data."""
    digest = hashlib.sha256(data_fingerprint.encode())
    for part in (model.config, model.input_spec, config):
        digest.update(json.dumps(to_dict(part), sort_keys=True).encode())
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _claim(folder: Path, key: str, resume: bool) -> bool:
    """Make `folder` this run's own; True where the run is finished already. Raises ConfigError."""
    marker = folder / "run.key"
    found = marker.read_text(encoding="utf-8") if marker.is_file() else None
    if folder.exists() and any(folder.iterdir()):
        if not resume:
            raise ConfigError(f"{folder} is not empty; name another folder, or pass --resume to go on with that run")
        if found != key:
            raise ConfigError(
                f"{folder} holds another run (other images, options, weights or version); name another folder"
            )
        return (folder / CALIBRATION_NAME).is_file()
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(key, encoding="utf-8")
    return False


def _features(
    model: SimpleNet, samples: Sequence[Sample], config: TrainConfig, folder: Path, key: str, report: Progress
) -> tuple[FeatureCache, list[tuple[Path, str]]]:
    reader = read_frames(samples, model.input_spec, config.max_corrupt_share)
    cache = FeatureCache.open(folder, key)
    if cache is None:
        cache = extract_features(
            model,
            (frame for _, frame in reader),
            len(samples),
            folder,
            key=key,
            budget_bytes=config.cache_bytes,
            seed=config.seed,
            progress=lambda done: report("features", done, len(samples)),
        )
    if model.config.standardize:
        model.standardizer.mean.copy_(torch.from_numpy(cache.mean))
        model.standardizer.std.copy_(torch.from_numpy(cache.std))
    return cache, reader.corrupt


def _train_networks(
    model: SimpleNet, cache: FeatureCache, config: TrainConfig, folder: Path, key: str, report: Progress
) -> dict[str, float]:
    trainer = AdversarialTrainer(
        model,
        noise=NoiseConfig(config.noise_std, config.mix_noise),
        margin=config.margin,
        discriminator_lr=config.discriminator_lr,
        projection_lr=config.projection_lr,
        weight_decay=config.weight_decay,
    )
    first, step, last = _load_checkpoint(folder / _CHECKPOINT_NAME, key, trainer)
    total = config.meta_epochs * config.gan_epochs
    model.train()
    with TensorBoardLogger(folder / "tensorboard", step) as log:
        for meta_epoch in range(first, config.meta_epochs):
            for gan_epoch in range(config.gan_epochs):
                epoch = meta_epoch * config.gan_epochs + gan_epoch
                last = dataclasses.asdict(_epoch(trainer, cache, config, epoch, log))
                log.scalars(**last)
                report("training", epoch + 1, total)
            _save_checkpoint(folder / _CHECKPOINT_NAME, key, trainer, meta_epoch + 1, log.global_step, last)
    model.eval()
    return last


def _epoch(
    trainer: AdversarialTrainer, cache: FeatureCache, config: TrainConfig, epoch: int, log: TensorBoardLogger
) -> StepResult:
    """One pass; its randomness depends on the seed and the epoch's number only, so that a resumed run repeats it."""
    n_rows = len(cache.rows)
    order = np.random.default_rng((config.seed, epoch)).permutation(n_rows)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((config.seed, epoch)).generate_state(1)[0]))
    size = min(config.batch_patches, n_rows)
    steps = min(n_rows // size, config.steps_per_epoch or n_rows)
    device = trainer.model.pixel_mean.device
    results = []
    for i in range(steps):
        batch = cache.batch(order[i * size : (i + 1) * size]).to(device)
        results.append(trainer.step(batch, generator))
        log.global_step += 1
    means = np.mean([dataclasses.astuple(result) for result in results], axis=0)
    return StepResult(*(float(value) for value in means))


def _save_checkpoint(
    path: Path, key: str, trainer: AdversarialTrainer, meta_epoch: int, step: int, last: dict[str, float]
) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    state = {"key": key, "meta_epoch": meta_epoch, "step": step, "last": last, "trainer": trainer.state_dict()}
    torch.save(state, temporary)
    os.replace(temporary, path)


def _load_checkpoint(path: Path, key: str, trainer: AdversarialTrainer) -> tuple[int, int, dict[str, float]]:
    if not path.is_file():
        return 0, 0, {}
    state = torch.load(path, map_location=trainer.model.pixel_mean.device, weights_only=True)
    if state["key"] != key:
        return 0, 0, {}
    trainer.load_state_dict(state["trainer"])
    return state["meta_epoch"], state["step"], state["last"]


def _calibration_scores(
    model: SimpleNet, samples: Sequence[Sample], config: TrainConfig, report: Progress
) -> tuple[dict[str, float], list[tuple[Path, str]]]:
    reader = read_frames(samples, model.input_spec, config.max_corrupt_share)
    scores: dict[str, float] = {}
    for sample, frame in reader:
        scores[sample.name] = float(model.predict(frame[np.newaxis]).score[0])
        report("calibration", len(scores), len(samples))
    if not scores:
        raise DataError("no readable image among the calibration images; add images of good parts")
    return scores, reader.corrupt


def _golden_frames(model: SimpleNet, samples: Sequence[Sample], scores: dict[str, float]) -> Frames:
    """The calibration frames with the lowest, the middle and the highest score."""
    ordered = sorted(scores, key=lambda name: scores[name])
    chosen = {ordered[0], ordered[len(ordered) // 2], ordered[-1]}
    reader = read_frames([sample for sample in samples if sample.name in chosen], model.input_spec)
    return np.stack([frame for _, frame in reader])


def _versions() -> dict[str, Any]:
    names = ("simplenet-edge", "torch", "torchvision", "numpy", "opencv-python")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
