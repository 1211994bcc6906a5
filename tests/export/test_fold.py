from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.export.cost import choose_forms, form_costs, memory_cost
from simplenet_edge.export.fold import (
    Affine,
    group_count,
    head_stages,
    memory_coordinates,
)
from simplenet_edge.export.folded_head import FoldedHead, LayerForm, grouped_weight
from simplenet_edge.model.patches import embedding_matrices, pooling_matrix
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import SimpleNetConfig
from tests.models import random_model

pytestmark = pytest.mark.slow

FORMS: tuple[LayerForm, ...] = get_args(LayerForm)


def config_of(
    target_embed_dim: int, standardize: bool, memory: tuple[int, int, int] | None, **other: Any
) -> SimpleNetConfig:
    if memory is not None:
        size, dim, stride = memory
        other |= {"memory_size": size, "memory_dim": min(dim, target_embed_dim), "memory_stride": stride}
        standardize = True
    return SimpleNetConfig(target_embed_dim=target_embed_dim, standardize=standardize, **other)


CONFIGS = st.builds(
    config_of,
    backbone=st.just("mobilenet_v2"),
    layers=st.sampled_from(
        [
            ("features.3",),
            ("features.6", "features.13"),
            ("features.13", "features.6"),  # the coarse grid is the reference: layers shrink to it
            ("features.2", "features.6", "features.10"),
        ]
    ),
    pretrain_embed_dim=st.integers(1, 80),
    target_embed_dim=st.integers(1, 80),  # most don't divide
    patch_size=st.sampled_from([1, 3, 5]),
    patch_stride=st.integers(1, 2),
    standardize=st.booleans(),
    projection_layers=st.integers(0, 3),
    projection_type=st.integers(0, 2),
    projection_batch_norm=st.booleans(),
    discriminator_layers=st.integers(1, 3),
    discriminator_hidden=st.integers(1, 20),
    discriminator_bias=st.booleans(),
    alignment=st.sampled_from(["half-pixel", "receptive-field"]),
    memory=st.none() | st.tuples(st.integers(1, 20), st.integers(1, 8), st.sampled_from([1, 2, 4])),
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=60)
@given(config=CONFIGS, seed=st.integers(0, 10**6))
def test_every_form_equals_the_head_as_written(
    dtype: torch.dtype, tolerance: float, config: SimpleNetConfig, seed: int
) -> None:
    model = random_model(config, seed=seed, dtype=dtype)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    with torch.inference_mode():
        expected = model.patch_maker.unpatch_scores(model.score_patches(model.embed(images)), model.grid_hw)
        features = model.backbone(images)
        scale = magnitude(model, features)
        for form in FORMS:
            found = FoldedHead(model, [form] * len(config.layers), dtype)(features)
            assert found.shape == expected.shape
            assert float((found - expected).abs().max()) <= tolerance * scale, form


def magnitude(model: SimpleNet, features: list[torch.Tensor]) -> float:
    """The size of the terms that add up to a score: what rounding is relative to, even where they cancel."""
    size = largest = max(float(feature.abs().max()) for feature in features)
    for stage in head_stages(model):
        size = size * float(stage.affine.weight.abs().sum(dim=1).max()) + float(stage.affine.bias.abs().max())
    if model.memory is not None:
        coordinates = memory_coordinates(model)
        size += largest * float(coordinates.weight.abs().sum()) + float(coordinates.bias.abs().sum())
    return size


@pytest.mark.parametrize(("size", "new_size"), [(36, 12), (10, 7), (5, 12), (7, 7)])
def test_pooling_matrix_is_adaptive_average_pooling(size: int, new_size: int) -> None:
    x = torch.randn(3, size, dtype=torch.float64)
    assert torch.allclose(x @ pooling_matrix(size, new_size).T, F.adaptive_avg_pool1d(x, new_size))


def test_the_papers_dimensions_leave_768_rows_a_layer_in_256_groups() -> None:
    config = SimpleNetConfig("wide_resnet50_2", ("layer2", "layer3"))
    matrices = embedding_matrices(config, [512, 1024])
    rows = [matrix[matrix.ne(0).any(dim=1)] for matrix in matrices]
    assert [len(r) for r in rows] == [768, 768]
    assert [group_count(r, c) for r, c in zip(rows, [512, 1024], strict=True)] == [256, 256]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_block_diagonal_matrix_runs_as_a_grouped_convolution(groups: int) -> None:
    rows, channels = 12, 8
    mask = torch.kron(torch.eye(groups), torch.ones(rows // groups, channels // groups))
    matrix = (torch.randn(rows, channels, 9) * mask[:, :, None]).flatten(1)
    assert group_count(matrix, channels) == groups
    x = torch.randn(1, channels, 5, 6)
    full = F.conv2d(x, matrix.reshape(rows, channels, 3, 3), padding=1)
    weight = grouped_weight(matrix, channels, groups).reshape(rows, -1, 3, 3)
    assert torch.allclose(F.conv2d(x, weight, padding=1, groups=groups), full, atol=1e-5)


def test_affine_maps_compose_in_order() -> None:
    first, second = (Affine(torch.randn(4, 4).double(), torch.randn(4).double()) for _ in range(2))
    x = torch.randn(4).double()
    expected = second.weight @ (first.weight @ x + first.bias) + second.bias
    joined = first.then(second)
    assert torch.allclose(joined.weight @ x + joined.bias, expected)


@pytest.mark.parametrize(
    ("changes", "slopes"),
    [
        ({}, [0.2, None]),
        ({"discriminator_layers": 1}, [None]),  # no activation at all: the whole head is one affine map
        ({"projection_layers": 2, "projection_type": 1}, [0.2, None]),  # a batch norm does not stop the fold
        ({"projection_layers": 3, "projection_type": 2}, [0.2, 0.2, 0.2, None]),
        ({"projection_layers": 0, "discriminator_layers": 3}, [0.2, 0.2, None]),
    ],
)
def test_only_activations_stop_the_fold(changes: dict[str, int], slopes: list[float | None]) -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32, discriminator_hidden=16, **changes)  # type: ignore[arg-type]
    assert [stage.slope for stage in head_stages(random_model(config))] == slopes


def test_the_cheapest_form_is_chosen() -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 256, 256, discriminator_hidden=192)
    model = random_model(config, (256, 256))
    costs, chosen = form_costs(model), choose_forms(model)
    assert set(chosen) <= set(FORMS)
    total = sum(costs[form][i].weight for i, form in enumerate(chosen))
    assert all(total <= sum(cost.weight for cost in costs[form]) for form in FORMS)
    narrow = SimpleNetConfig("mobilenet_v2", ("features.3",), 200, 200, projection_layers=0, discriminator_layers=1)
    assert choose_forms(random_model(narrow)) == ["full"]  # one output channel: nothing is gained by pooling first


def test_costs_count_the_multiply_adds_of_the_convolutions() -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32, discriminator_hidden=16)
    model = random_model(config)  # features 32 x 8 x 12
    full, pooled = (form_costs(model)[form][0] for form in ("full", "pooled"))
    assert full.macs == 16 * 32 * 9 * 8 * 12
    assert pooled.macs == (32 * 9 + 32 * 16) * 8 * 12  # one group a channel, then 1x1


def test_the_memory_costs_a_product_with_every_patch() -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32, memory_size=50, memory_dim=8)
    model = random_model(config)  # features 32 x 8 x 12, the memory on every second
    assert memory_cost(model).macs == 50 * 8 * 4 * 6 + 4 * 8 * 12  # and its resize
    assert memory_cost(random_model(SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32))).macs == 0
