"""The noise has the scale that was asked for, and a step moves the two networks and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.training.step import NOISE_GROWTH, MarginTrainer, NoiseConfig, add_noise


def trainer_of(model: SimpleNet) -> MarginTrainer:
    return MarginTrainer(
        model, noise=NoiseConfig(1.0), margin=0.5, discriminator_lr=1e-3, projection_lr=1e-4, weight_decay=1e-5
    )


@pytest.fixture
def model() -> SimpleNet:
    return build_simplenet("resnet18", random_weights=True, size_hw=(64, 64)).train()


def test_noise_is_gaussian_of_the_asked_scale() -> None:
    noise = add_noise(torch.zeros(4000, 16), NoiseConfig(0.3), torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert float((noise / 0.3).pow(4).mean()) == pytest.approx(3, rel=0.05)  # a Gaussian's kurtosis


def test_mix_noise_draws_each_row_from_the_scales_equally_often() -> None:
    scales = 0.3 * NOISE_GROWTH ** np.arange(3)
    noise = add_noise(torch.zeros(3000, 4000), NoiseConfig(0.3, mix_noise=3), torch.Generator().manual_seed(0))
    rows = noise.std(dim=1).numpy()
    nearest = np.abs(rows[:, None] - scales).argmin(axis=1)
    np.testing.assert_allclose(rows, scales[nearest], rtol=0.05)
    np.testing.assert_allclose(np.bincount(nearest) / len(rows), 1 / 3, atol=0.04)


def test_noise_repeats_with_its_generator() -> None:
    first, second = (
        add_noise(torch.zeros(8, 4), NoiseConfig(1.0, 2), torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_steps_lower_the_loss_and_leave_the_backbone_alone(model: SimpleNet) -> None:
    trainer, generator = trainer_of(model), torch.Generator().manual_seed(0)
    backbone = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    rows = torch.randn(256, model.config.target_embed_dim, generator=generator)
    results = [trainer.step(rows, generator) for _ in range(15)]
    assert results[-1].loss < results[0].loss
    assert 0 <= results[-1].p_true <= 1
    assert all(torch.equal(value, backbone[key]) for key, value in model.backbone.state_dict().items())


def test_learning_rates_scale_from_where_they_began(model: SimpleNet) -> None:
    trainer = trainer_of(model)
    for share in (0.5, 0.25):  # the second is not a share of the first
        trainer.scale_learning_rates(share)
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        assert rates == [share * 1e-3, share * 1e-4]


def test_state_continues_to_the_same_bits(model: SimpleNet) -> None:
    rows = torch.randn(64, model.config.target_embed_dim, generator=torch.Generator().manual_seed(0))
    trainer = trainer_of(model)
    trainer.step(rows, torch.Generator().manual_seed(1))
    state = copy.deepcopy(trainer.state_dict())
    expected = trainer.step(rows, torch.Generator().manual_seed(2))

    other = trainer_of(build_simplenet("resnet18", random_weights=True, size_hw=(64, 64), seed=9).train())
    other.load_state_dict(state)
    assert other.step(rows, torch.Generator().manual_seed(2)) == expected
    for name, value in trainer.model.discriminator.state_dict().items():
        assert torch.equal(other.model.discriminator.state_dict()[name], value)
