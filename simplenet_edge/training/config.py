"""How to train, as plain values; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.errors import ConfigError

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are this project's recipe, made for standardised features of any backbone.

    `meta_epochs` x `gan_epochs` epochs, each a pass over all cached patches in shuffled batches of `batch_patches`, or
    `steps_per_epoch` of them where that is less. `noise_std` is in units of the projected features; `mix_noise` draws
    each row's scale from `noise_std * 1.1**k`, k below `mix_noise`. `alpha` is the false-reject rate that the threshold
    guarantees. `cache_bytes` limits the feature cache on disk. `augment` adds frames made of the training images; the
    calibration images stay as they are.

    `whitening` starts the first layer of the projection at the matrix that makes the standardised features uncorrelated
    with this shrinkage, so that the noise means the same in every direction; None starts it at random, as the paper
    does. `memory_weight` is how often the distance to the remembered patches counts beside the discriminator's score,
    both in units of their spread over good patches. `final_lr_share` is what is left of both learning rates at the last
    step, on a half cosine; 1 keeps them.
    Training ends early where `patience` meta-epochs brought no loss 1 % below the lowest before, and where `budget_s`
    seconds are over: features take at most 60 % of them, of fewer images where all need longer; choosing what to
    remember a third of the rest, of fewer patches where all need longer; the learning rates fall with the time where
    that goes faster than the steps; and no meta-epoch but the first starts that would end too late. A run with a budget
    depends on the clock: it does not repeat to the bit.
    """

    meta_epochs: int = 10
    gan_epochs: int = 4
    batch_patches: int = 2048
    steps_per_epoch: int | None = 20
    noise_std: float = 1.0
    mix_noise: int = 1
    whitening: float | None = 0.01
    margin: float = 0.5
    discriminator_lr: float = 3e-3
    projection_lr: float = 1e-4
    final_lr_share: float = 0.0
    weight_decay: float = 1e-5
    memory_weight: float = 4.0
    alpha: float = 0.01
    calibration_share: float = 0.2
    max_corrupt_share: float = 0.05
    cache_bytes: int = 8 * 2**30
    augment: AugmentConfig | None = None
    patience: int | None = None
    budget_s: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("meta_epochs", "gan_epochs", "mix_noise", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_patches < 2:
            raise ConfigError(f"batch_patches must be at least 2 (batch norm needs two rows), not {self.batch_patches}")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise ConfigError(f"steps_per_epoch must be at least 1, not {self.steps_per_epoch}")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience must be at least 1 meta-epoch, not {self.patience}")
        for name in ("whitening", "budget_s"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be positive or left out, not {getattr(self, name)}")
        if not 0 <= self.final_lr_share <= 1:
            raise ConfigError(f"final_lr_share must be within 0..1, not {self.final_lr_share}")
        for name in ("noise_std", "margin", "discriminator_lr", "projection_lr", "memory_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, not {self.seed}")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha must be between 0 and 1, not {self.alpha}")
