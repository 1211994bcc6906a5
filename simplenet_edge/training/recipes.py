"""From training options to an untrained model and how to train it: this project's recipe, or the paper's."""

from __future__ import annotations

import dataclasses

import torch

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.errors import ConfigError
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.options import TrainingOptions

__all__ = ["base_config", "paper_recipe", "prepare"]

_PAPER_BATCH_IMAGES = 8
_LEAST_GRID = 4  # patches along a side: a patch is pooled with its neighbours on either side


def prepare(options: TrainingOptions, seed: int = 0) -> tuple[SimpleNet, TrainConfig]:
    """The untrained model on its device, and its recipe. `seed` draws split, networks, noise and order.

    Raises ConfigError for options that can't work, WeightsError for weights that aren't there or don't fit.
    """
    if options.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is usable here; leave --device out to train on the CPU")
    config = base_config(options, seed)
    model = build_simplenet(
        options.chosen_backbone,
        layers=options.layers,
        weights=options.weights,
        random_weights=options.random_weights,
        size_hw=options.size_hw,
        resize=options.resize,
        resize_to=options.resize_to,
        bit_depth=options.bit_depth,
        variant="paper" if options.recipe == "paper" else "edge",
        memory_size=options.memory,
        seed=seed,
    )
    _check_grid(model)
    if options.recipe == "paper":
        config = paper_recipe(config, model.grid_hw)
    if options.meta_epochs is not None:
        config = dataclasses.replace(config, meta_epochs=options.meta_epochs)
    if options.noise_std is not None:
        config = dataclasses.replace(config, noise_std=options.noise_std)
    return model.to(options.device), config


def base_config(options: TrainingOptions, seed: int) -> TrainConfig:
    """This project's recipe with what the options say, but for meta-epochs and noise. Raises ConfigError."""
    copies = options.extra_frames
    augment = AugmentConfig(copies, rotate_degrees=options.rotate_degrees) if copies else None
    return TrainConfig(alpha=options.alpha, group=options.group, augment=augment, budget_s=options.budget_s, seed=seed)


def _check_grid(model: SimpleNet) -> None:
    """Raise ConfigError for an input of so few patches that one defect would cover them all."""
    if min(model.grid_hw) >= _LEAST_GRID:
        return
    backbone = model.backbone
    sides = (side for side in range(8, 1025, 8) if min(backbone.feature_shapes((side, side))[0][1:]) >= _LEAST_GRID)
    (height, width), (rows, columns) = model.input_spec.size_hw, model.grid_hw
    raise ConfigError(
        f"an input of {height}x{width} gives {rows}x{columns} patches in {backbone.layers[0]} of {backbone.name}, "
        f"expected at least {_LEAST_GRID}x{_LEAST_GRID}; pass --size {next(sides, 256)} or more"
    )


def paper_recipe(config: TrainConfig, grid_hw: tuple[int, int]) -> TrainConfig:
    """The recipe of the paper: noise 0.015, 40 x 4 epochs over every patch; for a model that doesn't standardise.

    Some good images are held out for the threshold however few there are. Two differences stay: batches hold as many
    patches as the paper's 8 images, but shuffled over all images, and the last model is kept where the official code
    keeps the one that is best on the test images.
    """
    return dataclasses.replace(
        config,
        meta_epochs=40,
        gan_epochs=4,
        noise_std=0.015,
        mix_noise=1,
        whitening=None,
        discriminator_lr=2e-4,
        projection_lr=1e-4,
        final_lr_share=1.0,
        batch_patches=_PAPER_BATCH_IMAGES * grid_hw[0] * grid_hw[1],
        steps_per_epoch=None,
        folds=0,
    )
