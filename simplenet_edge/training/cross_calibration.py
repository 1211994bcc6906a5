"""Where good parts are few: every image is trained on, and every image calibrates, judged by a model without its part.

Cross-conformal calibration (Vovk 2015; Barber et al. 2021): of K models each is trained without one fold of the parts
and scores that fold. The model that is deployed is trained on all of them; its scores of new parts are, if anything,
lower. No theory holds for it alone: 2 alpha would hold for a vote of the K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from simplenet_edge.data.samples import Sample
from simplenet_edge.model.embedder import FastPredictor, FrameEmbedder
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import Progress
from simplenet_edge.threshold import images_needed
from simplenet_edge.training.calibration import CalibrationScores, calibration_scores, joined_scores
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.features import FeatureCache
from simplenet_edge.training.loop import train_networks

__all__ = ["FOLDS_NAME", "cross_calibration_scores", "wants_folds"]

FOLDS_NAME = "folds"
MOST_IMAGES = 150
"""With more images K more trainings cost more time than the held-out images are worth."""
_HELD_OUT = 0.5  # a split may hold out so many of the parts


def wants_folds(n_images: int, n_parts: int, config: TrainConfig) -> bool:
    """Whether so few parts are worth K more trainings: a split could not guarantee `alpha` and would waste them."""
    few = n_images <= MOST_IMAGES and n_parts >= 2 and images_needed(config.alpha) > _HELD_OUT * n_parts
    return bool(config.folds) and config.budget_s is None and few


def cross_calibration_scores(
    model: SimpleNet,
    embedder: FrameEmbedder,
    samples: Sequence[Sample],
    parts: Mapping[str, str],
    cache: FeatureCache,
    config: TrainConfig,
    folder: Path,
    key: str,
    progress: Progress,
) -> CalibrationScores:
    """The scores of all samples, each by a model like `model` that was trained without its part.

    `embedder` is that of `model`, whose backbone all of them have. `cache` holds the features of all samples, in order,
    each with its extra frames. What is interrupted goes on from the checkpoints in `folder`.
    """
    labels = sorted(set(parts.values()))
    n_folds = min(config.folds, len(labels))
    order = np.random.default_rng(config.seed).permutation(len(labels))
    fold_of = {labels[i]: place % n_folds for place, i in enumerate(order)}
    folds = np.array([fold_of[parts[sample.name]] for sample in samples])
    frames_per_image = cache.n_images // len(samples)
    found = []
    for fold in range(n_folds):

        def report(stage: str, done: int, total: int, name: str = f"fold {fold + 1} of {n_folds}") -> None:
            progress(f"{name}, {stage}", done, total)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            other = SimpleNet(model.config, model.input_spec, model.backbone).to(model.pixel_mean.device)
            other.head_quantizer = model.head_quantizer
            trained_on = cache.of_frames(np.repeat(folds != fold, frames_per_image))
            train_networks(other, trained_on, config, folder / f"{fold}", f"{key} fold {fold}", report=report)
        held = [sample for sample, own in zip(samples, folds, strict=True) if own == fold]
        found.append(
            calibration_scores(
                FastPredictor(other, embedder),
                held,
                model.input_spec,
                config.max_corrupt_share,
                report,
                parts,
                config.augment,
                config.seed,
            )
        )
    return joined_scores(found)
