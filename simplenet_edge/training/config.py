"""How to train, as plain values; nothing heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.data.groups import check_group
from simplenet_edge.data.reading import MAX_CORRUPT_SHARE
from simplenet_edge.errors import ConfigError

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are this project's recipe, made for standardised features of any backbone.

    With `budget_s`, extraction takes at most 60 % of it, of fewer images where all need longer, and choosing the memory
    a third of the rest, of fewer patches; the learning rates fall with the time where that goes faster than the steps;
    no meta-epoch but the first starts that would end too late. Such a run depends on the clock and does not repeat to
    the bit.
    """

    meta_epochs: int = 10  # each of gan_epochs
    gan_epochs: int = 4  # passes over the cached patches
    batch_patches: int = 2048
    steps_per_epoch: int | None = 20  # at most; None for a whole pass
    noise_std: float = 1.0  # in units of the projected features
    mix_noise: int = 1  # each row's scale is noise_std * 1.1**k, with k drawn below this
    whitening: float | None = 0.01  # shrinkage of the whitening that the projection starts at; None: random
    margin: float = 0.5  # of the truncated L1 loss
    discriminator_lr: float = 3e-3
    projection_lr: float = 1e-4
    final_lr_share: float = 0.0  # of both learning rates at the last step, on a half cosine; 1 keeps them
    weight_decay: float = 1e-5
    memory_weight: float = 2.0  # of the memory's distance beside the discriminator's score, in units of their spread
    alpha: float = 0.01  # the false-reject rate that the threshold guarantees
    calibration_share: float = 0.2  # of the good parts, kept out of training
    group: str = "auto"  # which images show one part, as in `TrainingOptions`
    folds: int = 5  # where parts are too few to hold some out: models that judge what they have not seen; 0: never
    max_corrupt_share: float = MAX_CORRUPT_SHARE  # more unreadable images end the training
    cache_bytes: int = 8 * 2**30  # of disk for the features
    augment: AugmentConfig | None = None  # more frames of each image, to train and to calibrate on
    patience: int | None = None  # end after this many meta-epochs without a loss 1 % below the lowest; None: never
    budget_s: float | None = None  # seconds for all of it; None: no limit
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("meta_epochs", "gan_epochs", "mix_noise", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"folds must be at least 2, or 0 for none, not {self.folds}")
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
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be at least 0 and below 2**63, not {self.seed}")
        check_group(self.group)
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha must be between 0 and 1, not {self.alpha}")
