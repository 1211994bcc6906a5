"""Train a SimpleNet on good parts: features once, then the two small networks, then the operating point.

In: samples of good parts. Out: a `TrainingRun` folder. No defect image and no test image is read here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from simplenet_edge.bundle_files import npy_bytes
from simplenet_edge.data.augment import augmented_frames
from simplenet_edge.data.facts import gather_facts, refuse_untrainable
from simplenet_edge.data.findings import image_findings
from simplenet_edge.data.groups import absolute_group, labels_by_name
from simplenet_edge.data.layouts import Sample
from simplenet_edge.data.reading import Split, check_bit_depth, fingerprint, read_frames, split_good
from simplenet_edge.data.samples import content_hash
from simplenet_edge.files import disk_errors, write_bytes
from simplenet_edge.model.embedder import FastPredictor, FrameEmbedder
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnLoss, OnMessage, Progress, ignore, ignore_loss, ignore_message
from simplenet_edge.spec import Frames, from_dict, to_dict
from simplenet_edge.system import installed_version
from simplenet_edge.threshold import calibration_share
from simplenet_edge.training.calibration import calibration_scores
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.cross_calibration import FOLDS_NAME, cross_calibration_scores, wants_folds
from simplenet_edge.training.features import FeatureCache, extract_features
from simplenet_edge.training.loop import CHECKPOINT_NAME, AfterMetaEpoch, train_networks
from simplenet_edge.training.parts import find_parts
from simplenet_edge.training.run import (
    BACKBONE_WEIGHTS,
    DESCRIPTORS_NAME,
    ImageSources,
    PartNames,
    PatchCounts,
    SplitNames,
    StageSeconds,
    TrainingRecord,
    TrainingRun,
)
from simplenet_edge.training.run_folder import claimed

__all__ = ["retrain", "train"]

_FEATURES_FOLDER = "features"
_EXTRACTION_SHARE = 0.6  # of a time budget


def train(
    model: SimpleNet,
    good: Sequence[Sample],
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
    on_loss: OnLoss = ignore_loss,
    after_meta_epoch: AfterMetaEpoch | None = None,
) -> TrainingRun:
    """Train `model` in place on samples of good parts and write the run into `folder`.

    With `resume`, an interrupted run in `folder` goes on where its last meta-epoch ended and, on a CPU, comes to the
    same bits as an unbroken one; a finished run is returned as it is. `on_message` is told what is odd about the
    images, a sentence per kind. `after_meta_epoch` only watches: it must not change the model. Where the usual share of
    calibration images is too small for `alpha`, `calibration_share` enlarges it. Raises ConfigError where `folder`
    holds another run or another process trains in it, DataError for images that can't be used or teach nothing, or
    where the disk refuses.
    """
    hashes = {sample.path: content_hash(sample.path) for sample in good}
    data_fingerprint = fingerprint(good, hashes)
    key = _run_key(model, config, data_fingerprint, labels_by_name(good, config.group))
    with disk_errors(folder), claimed(folder, key, resume) as finished:
        if finished:
            run = TrainingRun.load(folder)
        else:
            checked = _checked_split(model, good, hashes, config, progress, on_message)
            run = _train(model, checked, config, folder, key, data_fingerprint, progress, on_loss, after_meta_epoch)
        _drop_working_files(folder)
    return run


class _Checked(NamedTuple):
    split: Split
    sources: ImageSources
    parts: PartNames
    descriptors: npt.NDArray[np.float16] | None  # of all images, where parts were found by their looks
    cross: bool  # parts are few: both sides of the split are all images, see `cross_calibration`


def _checked_split(
    model: SimpleNet,
    good: Sequence[Sample],
    hashes: Mapping[Path, str],
    config: TrainConfig,
    progress: Progress,
    on_message: OnMessage,
) -> _Checked:
    """The split of good parts that have been looked over. Raises DataError where they can't teach anything."""
    check_bit_depth(good, model.input_spec)
    facts = gather_facts(good, model.input_spec.bit_depth, progress)
    refuse_untrainable(facts, config.max_corrupt_share)
    for finding in image_findings(facts):
        on_message(f"{finding.kind}: {finding.text}")
    parts = find_parts(facts, config.group, on_message)
    n_parts = len(set(parts.values()))
    share = calibration_share(n_parts, config.alpha, config.calibration_share)
    if cross := wants_folds(len(good), n_parts, config):
        on_message(
            f"parts: {n_parts} are few, so all are trained on, and {min(config.folds, n_parts)} more models that each "
            "miss some of them set the threshold; that takes as many times as long"
        )
        readable = tuple(one.sample for one in facts if one.error is None)
        split = Split(readable, readable)
    else:
        split = split_good(good, share, config.seed, [one.pixels for one in facts], [parts[one.name] for one in good])
    sides = ({sample.name: parts[sample.name] for sample in side} for side in (split.train, split.calibration))
    descriptors = np.stack([one.descriptor for one in facts]) if config.group == "auto" else None
    sources = ImageSources(
        _paths(split.calibration),
        fingerprint(split.calibration, hashes),
        _paths(split.train),
        fingerprint(split.train, hashes),
    )
    return _Checked(split, sources, PartNames(absolute_group(config.group), *sides), descriptors, cross)


def _train(
    model: SimpleNet,
    checked: _Checked,
    config: TrainConfig,
    folder: Path,
    key: str,
    data_fingerprint: str,
    progress: Progress,
    on_loss: OnLoss,
    after_meta_epoch: AfterMetaEpoch | None,
) -> TrainingRun:
    split, sources, parts, descriptors, cross = checked
    started = time.perf_counter()
    names = "\0".join(sample.name for sample in split.calibration)
    key += hashlib.sha256(os.fsencode(names)).hexdigest()  # features of other images must not be taken up
    copies = 0 if config.augment is None else config.augment.copies
    embedder = FrameEmbedder(model, (len(split.train) + len(split.calibration)) * (1 + copies))
    until = None if config.budget_s is None else started + _EXTRACTION_SHARE * config.budget_s
    cache = _features(model, embedder, split.train, config, folder / _FEATURES_FOLDER, key, until, progress)
    extracted = time.perf_counter()
    left_s = None if config.budget_s is None else config.budget_s - (extracted - started)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        state = train_networks(
            model,
            cache,
            config,
            folder,
            key,
            report=progress,
            on_loss=on_loss,
            after_meta_epoch=after_meta_epoch,
            budget_s=left_s,
        )
    trained = time.perf_counter()
    if cross:
        found = cross_calibration_scores(
            model, embedder, split.train, parts.train, cache, config, folder / FOLDS_NAME, key, progress
        )
    else:
        found = calibration_scores(
            FastPredictor(model, embedder),
            split.calibration,
            model.input_spec,
            config.max_corrupt_share,
            progress,
            parts.calibration,
            config.augment,
            config.seed,
        )
    assert state.last_epoch is not None
    record = TrainingRecord(
        train=to_dict(config),
        split=SplitNames(
            tuple(sample.name for sample in split.train), tuple(sample.name for sample in split.calibration)
        ),
        sources=sources,
        corrupt=(*cache.corrupt, *_named(found.corrupt)),
        data_fingerprint=data_fingerprint,
        patches=PatchCounts(cache.n_images, len(cache.rows)),
        last_epoch=state.last_epoch,
        meta_epochs=state.meta_epochs,
        ended=state.stop_reason,
        backbone_sha256=_backbone_hash(model),
        device=_device_name(model),
        threads=torch.get_num_threads(),
        seconds=StageSeconds(extracted - started, trained - extracted, time.perf_counter() - trained),
        versions={**_versions(), BACKBONE_WEIGHTS: model.backbone.weights_source},
        parts=parts,
    )
    run = TrainingRun(
        folder,
        model.eval(),
        found.operating_point(config.alpha),
        found.statistics(),
        found.scores,
        record,
        _golden_frames(model, split.calibration, found.scores),
    )
    if descriptors is not None:
        write_bytes(folder / DESCRIPTORS_NAME, npy_bytes(descriptors))
    run.save()
    return run


def retrain(
    run: TrainingRun,
    model: SimpleNet,
    split: Split,
    folder: Path,
    key: str,
    *,
    progress: Progress = ignore,
    on_loss: OnLoss = ignore_loss,
) -> TrainingRun:
    """Train another model by the recipe of a finished run, on its `split`: the `images` of both sides.

    What was interrupted in `folder` under the same `key` goes on. Raises ConfigError where `folder` holds another run
    or another process trains in it, DataError where the disk refuses.
    """
    record = run.record
    assert record.parts is not None  # older than the places of the training images, without which there is no split
    assert record.sources is not None
    config = from_dict(TrainConfig, {**record.train, "augment": record.augment})
    checked = _Checked(split, record.sources, record.parts, None, run.operating_point.folds is not None)
    with disk_errors(folder), claimed(folder, key, resume=True):
        key += _backbone_hash(model)  # the features are of this backbone
        again = _train(model, checked, config, folder, key, record.data_fingerprint, progress, on_loss, None)
        _drop_working_files(folder)
    return again


def _drop_working_files(folder: Path) -> None:
    for name in (_FEATURES_FOLDER, FOLDS_NAME):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CHECKPOINT_NAME).unlink(missing_ok=True)


def _run_key(model: SimpleNet, config: TrainConfig, data_fingerprint: str, parts: Sequence[str] | None) -> str:
    """What must be equal for a run to go on: model, backbone weights, recipe, data, and what is said of its parts."""
    digest = hashlib.sha256(data_fingerprint.encode())
    for part in (model.config, model.input_spec, config):
        digest.update(json.dumps(to_dict(part), sort_keys=True).encode())
    digest.update(json.dumps(parts).encode())
    digest.update(_backbone_hash(model).encode())
    return digest.hexdigest()


def _backbone_hash(model: SimpleNet) -> str:
    digest = hashlib.sha256()
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _device_name(model: SimpleNet) -> str:
    device = model.pixel_mean.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def _features(
    model: SimpleNet,
    embedder: FrameEmbedder,
    samples: Sequence[Sample],
    config: TrainConfig,
    folder: Path,
    key: str,
    until: float | None,
    report: Progress,
) -> FeatureCache:
    """The features of the samples; with `until`, seconds of `time.perf_counter`, of those that are read before."""
    if until is not None:  # whatever part of them time allows should be a fair sample
        order = np.random.default_rng(config.seed).permutation(len(samples))
        samples = [samples[i] for i in order]
    reader = read_frames(samples, model.input_spec, config.max_corrupt_share)
    cache = FeatureCache.open(folder, key)
    frames: Iterable[Frames] = (read.frame for read in reader)
    n_frames = len(samples)
    if config.augment is not None:
        frames = augmented_frames(frames, config.augment, config.seed)
        n_frames *= 1 + config.augment.copies
    if until is not None:
        frames = _until(frames, until)
    if cache is None:
        cache = extract_features(
            model,
            frames,
            n_frames,
            folder,
            key=key,
            budget_bytes=config.cache_bytes,
            seed=config.seed,
            embedder=embedder,
            progress=report,
            corrupt=lambda: _named(reader.corrupt),
        )
    return cache


def _paths(samples: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(os.fspath(sample.path.resolve()) for sample in samples)


def _named(corrupt: Sequence[tuple[Path, str]]) -> list[str]:
    return [f"{path.name}: {reason.removeprefix(f'{path}: ')}" for path, reason in corrupt]


def _until(frames: Iterable[Frames], end: float) -> Iterator[Frames]:
    """The frames that come before `end`, seconds of `time.perf_counter`, and the first one always."""
    for frame in frames:
        yield frame
        if time.perf_counter() > end:
            return


def _golden_frames(model: SimpleNet, samples: Sequence[Sample], scores: dict[str, float]) -> Frames:
    """The calibration frames with the lowest, the middle and the highest score."""
    ordered = sorted(scores, key=lambda name: scores[name])
    chosen = {ordered[0], ordered[len(ordered) // 2], ordered[-1]}
    reader = read_frames([sample for sample in samples if sample.name in chosen], model.input_spec)
    return np.stack([read.frame for read in reader])


def _versions() -> dict[str, str]:
    libraries = {
        "simplenet-edge": ("simplenet-edge",),
        "torch": ("torch",),
        "torchvision": ("torchvision",),
        "numpy": ("numpy",),
    }
    found = {name: installed_version(*wheels) or "unknown" for name, wheels in libraries.items()}
    return {"python": platform.python_version(), **found, "opencv": cv2.__version__}
