"""SimpleNet's training step: good features against the same features with noise, a margin loss between them.

Works on embedding rows float32 `(N, D)` only; images, files and epochs are `simplenet_edge.training.trainer`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["MarginTrainer", "NoiseConfig", "StepResult", "add_noise"]

NOISE_GROWTH = 1.1
"""Ratio between neighbouring noise scales of `mix_noise`, as in the official code."""


@dataclass(frozen=True)
class NoiseConfig:
    """Gaussian noise on the projected features: each row draws one of `mix_noise` scales `std * 1.1**k`."""

    std: float
    mix_noise: int = 1


@dataclass(frozen=True)
class StepResult:
    """Means over one batch: the loss and the shares of good and of noisy rows beyond their margin."""

    loss: float
    p_true: float
    p_fake: float


def add_noise(features: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Features `(N, D)` with noise added: the pseudo-anomalies of the paper's section 3.3."""
    scales = noise.std * NOISE_GROWTH ** torch.arange(noise.mix_noise, dtype=features.dtype)
    drawn = scales[torch.randint(0, noise.mix_noise, (len(features), 1), generator=generator)]
    gaussian = torch.randn(features.shape, generator=generator, dtype=features.dtype)
    return features + (drawn * gaussian).to(features.device)


class MarginTrainer:
    """The two networks of a model with their optimisers: Adam for the discriminator, AdamW for the projection."""

    def __init__(
        self,
        model: SimpleNet,
        *,
        noise: NoiseConfig,
        margin: float,
        discriminator_lr: float,
        projection_lr: float,
        weight_decay: float,
    ) -> None:
        self.model = model
        self.noise = noise
        self.margin = margin
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(model.discriminator.parameters(), lr=discriminator_lr, weight_decay=weight_decay)
        ]
        if projection := list(model.pre_projection.parameters()):
            self.optimizers.append(torch.optim.AdamW(projection, lr=projection_lr))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def scale_learning_rates(self, share: float) -> None:
        """Take this share of the learning rates from the next step on."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["initial_lr"]

    def step(self, embedding: Tensor, generator: torch.Generator) -> StepResult:
        """One update on embedding rows of good patches `(N, D)` (paper, equation 5)."""
        true_features = self.model.project(embedding)
        fake_features = add_noise(true_features, self.noise, generator)
        normality = self.model.discriminator(torch.cat([true_features, fake_features]))[:, 0]
        true_normality, fake_normality = normality.split(len(embedding))
        loss = (self.margin - true_normality).clamp(min=0).mean() + (fake_normality + self.margin).clamp(min=0).mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return StepResult(
            float(loss.detach()),
            float((true_normality >= self.margin).float().mean()),
            float((fake_normality < -self.margin).float().mean()),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values."""
        return {
            "discriminator": self.model.discriminator.state_dict(),
            "pre_projection": self.model.pre_projection.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.model.discriminator.load_state_dict(state["discriminator"])
        self.model.pre_projection.load_state_dict(state["pre_projection"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
