"""The head of an INT8 model: what is rounded, and that rounding it changes nothing else."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simplenet_edge.model.embedder import Embedder
from simplenet_edge.model.int8 import int8_model, round_head, rounded_map
from simplenet_edge.model.quantization import INT8_MAX
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, SimpleNetConfig
from tests import models
from tests.models import random_model

CONFIG = SimpleNetConfig(
    "efficientnet_lite0",
    ("blocks.2", "blocks.3"),
    60,
    60,
    discriminator_hidden=32,
    alignment="receptive-field",
    memory_size=30,
    memory_dim=12,
)


@pytest.fixture(scope="module")
def source() -> SimpleNet:
    return random_model(CONFIG)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(source: SimpleNet, frames: Frames) -> SimpleNet:
    return models.int8_model(source, frames)


def images(model: SimpleNet, frames: Frames) -> Tensor:
    return model.normalize(torch.from_numpy(frames))


def steps_of(model: SimpleNet, weight: Tensor) -> Tensor:
    """A map of standardised rows, in units of the embedding's steps and its own scale a row."""
    assert model.head_quantizer is not None
    units = weight.double() * model.head_quantizer.steps / model.standardizer.std
    return units / units.abs().amax(dim=1, keepdim=True) * INT8_MAX


def test_shares_of_the_layers_are_whole_steps_and_fill_most_of_their_range(model: SimpleNet, frames: Frames) -> None:
    quantizer = model.head_quantizer
    assert quantizer is not None
    features = quantizer.rounded_features(model.backbone(images(model, frames)))
    for i, share in enumerate(model.layer_shares(features)):
        used = share.ne(0).any(dim=3).any(dim=2).any(dim=0)
        steps = (quantizer(share, i) - quantizer.middles[i].view(-1, 1, 1)) / quantizer.steps.view(-1, 1, 1)
        assert (steps - steps.round()).abs().max() < 1e-3
        assert steps.abs().max() <= 128
        assert steps[:, used].abs().amax((0, 2, 3)).median() > 90


def test_rounding_changes_the_embedding_little(source: SimpleNet, frames: Frames) -> None:
    made = int8_model(source, lambda: [images(source, frames)])
    made.backbone = source.backbone
    expected = source.embed(images(source, frames))
    error = (made.embed(images(made, frames)) - expected).std(dim=0) / expected.std(dim=0)
    assert error.median() < 0.03


def test_both_embeddings_round_alike(model: SimpleNet, frames: Frames) -> None:
    found, expected = Embedder(model)(images(model, frames)), model.embed(images(model, frames))
    assert model.head_quantizer is not None
    apart = (found - expected).abs() / model.head_quantizer.steps
    assert (apart < 1e-2).float().mean() > 0.99  # a value halfway between two steps may fall to either side
    assert apart.max() < 3


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"projection_layers": 2, "projection_type": 1},  # linear layers and batch norms only
        {"projection_layers": 2, "projection_type": 2},  # an activation in the projection
        {"projection_layers": 0},
        {"discriminator_layers": 1},  # no activation at all, and a score without a bias
        {"discriminator_layers": 3, "discriminator_bias": True},
    ],
)
def test_the_first_linear_map_is_rounded_in_place(source: SimpleNet, frames: Frames, change: dict[str, object]) -> None:
    before = random_model(dataclasses.replace(CONFIG, **change))  # type: ignore[arg-type]
    made = int8_model(before, lambda: [images(before, frames)]).eval()
    for name in ("pre_projection", "discriminator", "standardizer"):
        getattr(made, name).load_state_dict(getattr(before, name).state_dict())
    rows = torch.randn(500, 60, generator=torch.Generator().manual_seed(0)) @ torch.randn(60, 60)
    exact = made.discriminator(made.pre_projection(rows))
    round_head(made)
    found = made.discriminator(made.pre_projection(rows))
    assert (found - exact).std() < 0.05 * exact.std()
    assert (found - exact).mean().abs() < 0.05 * exact.std()
    assert not torch.equal(found, exact)
    layers = [*made.pre_projection.modules(), *made.discriminator.modules()]
    linear = [module.weight for module in layers if isinstance(module, nn.Linear)]
    assert any((steps - steps.round()).abs().max() < 1e-2 for steps in (steps_of(made, w) for w in linear))
    again = copy.deepcopy(made)
    round_head(again)
    torch.testing.assert_close(again.discriminator(again.pre_projection(rows)), found)


def test_a_channel_that_never_changes_takes_no_part_in_the_scale(model: SimpleNet, frames: Frames) -> None:
    other = copy.deepcopy(model)
    assert other.head_quantizer is not None
    with torch.no_grad():
        shares = other.layer_shares(other.backbone(images(other, frames)))
        other.head_quantizer.calibrate(
            other.backbone,
            lambda _: [share.index_fill(1, torch.tensor([7]), 3.0) for share in shares],
            [images(other, frames)],
        )
    steps = other.head_quantizer.steps
    assert 0 < float(steps[7]) < 1e-5 * float(steps.max())
    assert float(other.head_quantizer.middles[0, 7]) == 3


def test_coordinates_and_remembered_patches_are_whole_steps(model: SimpleNet, frames: Frames) -> None:
    memory = model.memory
    assert memory is not None
    assert memory.quantizer is not None
    rows = memory.coordinates(model.standardizer(model.embed(images(model, frames))))
    for values in (rows, memory.patches):
        steps = values / memory.quantizer.scale
        assert (steps - steps.round()).abs().max() < 1e-3
    weights = steps_of(model, memory.components)
    assert (weights - weights.round()).abs().max() < 1e-2
    assert torch.equal(rounded_map(model, memory.components).float(), memory.components)
