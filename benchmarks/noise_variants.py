"""Pseudo-anomalies that were tried in place of the product's plain Gaussian; all work on projected rows `(N, D)`.

Each takes the place of `simplenet_edge.training.step.add_noise` and is called as it is: features, noise, generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.training.step import NoiseConfig, add_noise

__all__ = ["MarginFeedback", "Noise", "covariance_shaped", "on_half_of_the_channels", "on_some_channels"]

Noise = Callable[[Tensor, NoiseConfig, torch.Generator], Tensor]


def on_half_of_the_channels(features: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Noise on each channel of each row with a chance of one half."""
    return _masked(features, noise, generator, torch.full((len(features), 1), 0.5))


def on_some_channels(features: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Noise on a random subset of the channels, whose share each row draws from 0..1.

    What is left of SuperSimpleNet's mask (Rolih et al. 2024), where Perlin noise says which patches of an image stay
    normal: shuffled rows have no image to draw it on, and rows left normal would only repeat the batch's good half.
    """
    return _masked(features, noise, generator, torch.rand((len(features), 1), generator=generator))


def _masked(features: Tensor, noise: NoiseConfig, generator: torch.Generator, share: Tensor) -> Tensor:
    mask = torch.rand(features.shape, generator=generator) < share
    return torch.where(mask, add_noise(features, noise, generator), features)


def covariance_shaped(features: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Gaussian noise with the covariance of the batch's projected features: anisotropic, as wide as they are."""
    with torch.no_grad():
        covariance = torch.cov(features.T)
        floor = 1e-4 * covariance.diagonal().mean() * torch.eye(len(covariance))
        factor = torch.linalg.cholesky(covariance + floor)
    return features + noise.std * torch.randn(features.shape, generator=generator) @ factor.T


class MarginFeedback:
    """Noise whose scale follows the discriminator: `target` of held-out good rows, made noisy, lie beyond the margin.

    `held_out` are embedding rows float32 `(N, D)` of training images that are not trained on.
    """

    def __init__(self, model: SimpleNet, held_out: Tensor, margin: float, target: float) -> None:
        self.model = model
        self.held_out = held_out
        self.margin = margin
        self.target = target
        self.scale = 1.0
        self._steps = 0

    def __call__(self, features: Tensor, noise: NoiseConfig, generator: torch.Generator) -> Tensor:
        """Features with noise of the present scale; every tenth call sets it anew."""
        if self._steps % 10 == 0:
            found = self.share_beyond_margin(replace(noise, std=self.scale * noise.std), generator)
            self.scale = min(max(self.scale * math.exp(0.5 * (self.target - found)), 0.02), 10.0)
        self._steps += 1
        return add_noise(features, replace(noise, std=self.scale * noise.std), generator)

    @torch.no_grad()
    def share_beyond_margin(self, noise: NoiseConfig, generator: torch.Generator) -> float:
        """Share of the held-out rows that the discriminator takes for anomalies by the margin once they have noise."""
        self.model.eval()
        noisy = add_noise(self.model.project(self.held_out), noise, generator)
        normality = self.model.discriminator(noisy)
        self.model.train()
        return float((normality < -self.margin).float().mean())
