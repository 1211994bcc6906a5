from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.geometry import Grid
from simplenet_edge.model.memory import PatchMemory
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import SimpleNetConfig
from simplenet_edge.training.coreset import build_memory, calibrate_memory_weight, k_center_greedy
from simplenet_edge.training.features import FeatureCache
from simplenet_edge.training.loop import set_statistics
from tests.models import random_model

CONFIG = SimpleNetConfig("resnet18", ("layer2", "layer3"), 64, 64, memory_size=30, memory_dim=16)


def cache_of(model: SimpleNet, n_images: int, seed: int = 0) -> FeatureCache:
    height, width = model.grid_hw
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n_images * height * width, 64)) @ rng.standard_normal((64, 64))).astype(np.float16)
    mean, std = rows.astype(float).mean(0), rows.astype(float).std(0)
    return FeatureCache(rows, mean, std, np.corrcoef(rows.astype(float).T), n_images)


@given(count=st.integers(1, 40), size=st.integers(1, 30), seed=st.integers(0, 1000))
def test_farthest_points_cover(count: int, size: int, seed: int) -> None:
    """Each chosen row is at least as far from those before it as any row is from all that were chosen."""
    rows = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))
    chosen = k_center_greedy(rows, count, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen.tolist())) == min(count, size)
    reach = torch.cdist(rows, rows[chosen]).amin(dim=1).max()
    for i in range(1, len(chosen)):
        assert torch.cdist(rows[chosen[i : i + 1]], rows[chosen[:i]]).min() >= reach - 1e-3


@pytest.mark.parametrize(("size", "spread"), [(9000, 100), (4097, 3), (40, 1000)])  # exact in float32; with many ties
def test_each_point_is_the_first_of_the_farthest(rng: np.random.Generator, size: int, spread: int) -> None:
    rows = rng.integers(-spread, spread + 1, (size, 4))
    chosen = k_center_greedy(torch.from_numpy(rows).float(), 300, np.random.default_rng(0)).tolist()
    distances = np.full(size, np.iinfo(np.int64).max)
    for latest, following in itertools.pairwise(chosen):
        distances = np.minimum(distances, ((rows - rows[latest]) ** 2).sum(axis=1))
        distances[latest] = -1
        assert following == distances.argmax()


def test_distances_are_euclidean() -> None:
    memory = random_model(CONFIG).memory
    assert memory is not None
    rows = torch.randn(50, 64)
    expected = torch.cdist((rows @ memory.components.T).double(), memory.patches.double()).amin(dim=1)
    assert torch.allclose(memory.distances(rows), expected.float(), atol=1e-4)


def test_a_remembered_patch_is_near_and_its_neighbours_between() -> None:
    grid = Grid.spread_evenly((5, 6), (40, 48))
    memory = PatchMemory(8, 2, 8, 2, grid)
    memory.components.copy_(torch.eye(8))
    memory.patches.copy_(torch.stack([torch.zeros(8), torch.full((8,), 100.0)]))
    rows = torch.zeros(1, 5, 6, 8)
    rows[0, 2, 4, 0] = 3  # on the memory's own grid
    rows[0, 1, 1, 0] = 50  # between its cells: not asked about
    scores = torch.zeros(30)
    found = memory(rows.reshape(-1, 8), scores).reshape(5, 6)
    assert found[2, 4] == pytest.approx(3)
    assert found[1, 4] == pytest.approx(1.5)
    assert found[3, 3] == pytest.approx(0.75)
    assert found[0, 0] == 0
    assert found[1, 1] == 0


def test_the_memory_is_filled_from_its_own_grid() -> None:
    model = random_model(CONFIG)
    cache = cache_of(model, 4)
    set_statistics(model, cache, 0.01)
    build_memory(model, cache, 0)
    assert model.memory is not None
    height, width = model.grid_hw
    own = cache.rows.reshape(4, height, width, 64)[:, ::2, ::2].reshape(-1, 64)
    coordinates = model.memory.coordinates(model.standardizer(torch.from_numpy(own.astype(np.float32))))
    assert len(model.memory.patches) == 30
    assert torch.cdist(model.memory.patches, coordinates).amin(dim=1).max() < 1e-2
    variances = coordinates.var(dim=0)
    assert (variances[:-1] > 0.6 * variances[1:]).all()  # components by falling variance


@torch.no_grad()
def test_a_balanced_score_has_both_parts_in_one_unit() -> None:
    model = random_model(CONFIG)
    cache = cache_of(model, 6)
    set_statistics(model, cache, 0.01)
    build_memory(model, cache, 0)
    calibrate_memory_weight(model, cache, 3.0, 0)
    memory = model.memory
    assert memory is not None
    rows = torch.from_numpy(cache.rows.reshape(6, *model.grid_hw, 64)[:, 1::2].reshape(-1, 64).astype(np.float32))
    standardized = model.standardizer(rows)
    score = -model.discriminator(model.pre_projection(standardized))[:, 0] * memory.score_scale
    distance = memory.distances(standardized) * memory.distance_scale
    assert float(score.std()) == pytest.approx(1, rel=0.2)
    assert float(distance.std()) == pytest.approx(3, rel=0.2)
    assert float((score + distance + memory.shift).mean()) == pytest.approx(0, abs=0.5)


def test_a_small_training_set_is_remembered_whole_and_loads_again(tmp_path: Path) -> None:
    model = random_model(CONFIG)
    cache = cache_of(model, 1)
    set_statistics(model, cache, 0.01)
    build_memory(model, cache, 0)
    calibrate_memory_weight(model, cache, 4.0, 0)
    assert model.memory is not None
    eligible = (-(-model.grid_hw[0] // 2)) * (-(-model.grid_hw[1] // 2))
    assert len(model.memory.patches) == eligible < model.config.memory_size
    model.save(tmp_path)
    again = SimpleNet.load(tmp_path)
    assert again.config == model.config
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(frames).map, model.predict(frames).map)


def test_rows_without_places_are_remembered_too() -> None:
    """A cache that holds a part of each image's patches doesn't know where they lay."""
    model = random_model(CONFIG)
    cache = cache_of(model, 4)
    part = FeatureCache(cache.rows[::3], cache.mean, cache.std, cache.correlation, 4)
    set_statistics(model, part, 0.01)
    build_memory(model, part, 0)
    calibrate_memory_weight(model, part, 4.0, 0)
    assert model.memory is not None
    assert len(model.memory.patches) == 30
    assert float(model.memory.distance_scale) > 0


def test_the_paper_has_no_memory() -> None:
    assert build_simplenet("resnet18", random_weights=True, variant="paper").memory is None
    with pytest.raises(ConfigError, match="standardised"):
        build_simplenet("resnet18", random_weights=True, variant="paper", memory_size=10)
    with pytest.raises(ConfigError, match="memory_dim"):
        SimpleNetConfig("resnet18", ("layer2",), 64, 64, memory_size=5, memory_dim=65)
    with pytest.raises(ConfigError, match="memory_size"):
        SimpleNetConfig("resnet18", ("layer2",), memory_size=-1)


def test_without_time_a_hundred_are_remembered() -> None:
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    assert len(k_center_greedy(rows, 400, np.random.default_rng(0), end=0.0)) == 100
    assert len(k_center_greedy(rows, 400, np.random.default_rng(0))) == 400


def test_patches_that_all_look_alike_are_no_reason_to_shout() -> None:
    model = random_model(CONFIG)
    cache = cache_of(model, 3)
    alike = FeatureCache(np.ones_like(cache.rows), cache.mean, cache.std, cache.correlation, 3)
    set_statistics(model, alike, 0.01)
    build_memory(model, alike, 0)
    calibrate_memory_weight(model, alike, 4.0, 0)
    assert model.memory is not None
    assert all(torch.isfinite(value).all() for value in model.memory.state_dict().values())
