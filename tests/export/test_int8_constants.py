"""Weights that are stored as INT8."""

from __future__ import annotations

import pytest
import torch

from simplenet_edge.export.int8_constants import Int8Constant, exact_scales
from simplenet_edge.model.defaults import BACKBONE_DEFAULTS
from simplenet_edge.model.patches import embedding_matrices
from simplenet_edge.spec import SimpleNetConfig

CHANNELS = {
    "efficientnet_lite0": (40, 80, 112),
    "efficientnet_lite2": (48, 88, 120),
    "wide_resnet50_2": (512, 1024),
    "resnet18": (128, 256),
    "mobilenet_v2": (32, 64, 96),
    "convnext_tiny": (192, 384),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_the_means_of_an_embedding_lose_nothing(name: str) -> None:
    defaults = BACKBONE_DEFAULTS[name]
    config = SimpleNetConfig(name, defaults.layers, defaults.embed_dim, defaults.embed_dim)
    for matrix in embedding_matrices(config, CHANNELS[name]):
        rows = matrix[matrix.ne(0).any(dim=1)]
        width = int(rows.ne(0).sum(dim=1).max())
        few = rows.sort(dim=1, descending=True).values[:, :width]  # what is not zero
        stored = Int8Constant(few, exact_scales(few))()
        torch.testing.assert_close(stored, few.float(), rtol=1e-6, atol=0)


def test_other_weights_lose_half_a_step_at_most() -> None:
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stored = Int8Constant(weight, exact_scales(weight))()
    assert ((stored - weight).abs().amax((1, 2, 3)) <= weight.abs().amax((1, 2, 3)) / 127).all()
    assert stored.dtype == torch.float32


def test_one_scale_in_all() -> None:
    value = torch.tensor([[-3.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    constant = Int8Constant(value, torch.tensor(0.5, dtype=torch.float64))
    assert constant.integers.tolist() == [[-6, 2], [1, 4]]
    assert torch.equal(constant(), value.float())
