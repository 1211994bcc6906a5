from __future__ import annotations

import pytest
import torch
from torch import nn

from simplenet_edge.model.networks import Discriminator, Projection


def kinds(module: nn.Module) -> list[str]:
    return [type(m).__name__ for m in module.modules() if not list(m.children())]


@pytest.mark.parametrize(
    ("layer_type", "batch_norm", "between"),
    [
        (0, True, []),
        (1, True, ["BatchNorm1d"]),
        (2, True, ["BatchNorm1d", "LeakyReLU"]),
        (1, False, []),  # the official code, whatever its comments say
        (2, False, ["LeakyReLU"]),
    ],
)
def test_projection_puts_its_type_between_the_layers(layer_type: int, batch_norm: bool, between: list[str]) -> None:
    projection = Projection(6, 4, n_layers=3, layer_type=layer_type, batch_norm=batch_norm)
    assert kinds(projection) == ["Linear", *between, "Linear", *between, "Linear"]
    assert projection(torch.randn(5, 6)).shape == (5, 4)


def test_projection_keeps_the_width_by_default() -> None:
    assert Projection(6)(torch.randn(2, 6)).shape == (2, 6)


@pytest.mark.parametrize(
    ("hidden", "widths"),
    [(10, [(90, 10), (10, 10), (10, 1)]), (None, [(90, 60), (60, 40), (40, 1)])],  # None: each 1.5 times smaller
)
def test_discriminator_widths(hidden: int | None, widths: list[tuple[int, int]]) -> None:
    discriminator = Discriminator(90, n_layers=3, hidden=hidden)
    linear = [(m.in_features, m.out_features) for m in discriminator.modules() if isinstance(m, nn.Linear)]
    assert linear == widths
    assert discriminator(torch.randn(4, 90)).shape == (4, 1)


def test_discriminator_of_one_layer_is_linear() -> None:
    assert len(Discriminator(8, n_layers=1).body) == 0


@pytest.mark.parametrize("tail_bias", [False, True])
def test_only_the_tail_bias_is_a_choice(tail_bias: bool) -> None:
    assert (Discriminator(8, hidden=4, tail_bias=tail_bias).tail.bias is not None) is tail_bias
