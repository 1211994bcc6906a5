from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.evaluation.pod import HitMissModel, Trials

SIZES = 2 * 2 ** (np.arange(11) / 2)
CONTRAST = math.log(0.2)
TRUE_A90 = math.log(12) + math.log(9) / 2.5


def trials(n: int, seed: int = 0, spread: float = 0.0, images: int = 40, slope: float = 2.5) -> Trials:
    """Hits of a known model: a90 is exp(TRUE_A90) at a contrast of 0.2, where images and regions are alike."""
    rng = np.random.default_rng(seed)
    size, contrast = np.log(rng.choice(SIZES, n)), np.log(rng.choice([0.1, 0.2, 0.4], n))
    image = rng.integers(0, images, n)
    eta = slope * (size - math.log(12)) + 2 * (contrast - CONTRAST) + rng.normal(0, spread, images)[image]
    return Trials(size, contrast, rng.integers(0, 9, n), image, rng.random(n) < 1 / (1 + np.exp(-eta)))


def of_sizes(hits: dict[float, list[bool]]) -> Trials:
    """Trials of one contrast, one region and an image each."""
    sizes = np.log(np.repeat(list(hits), [len(found) for found in hits.values()]))
    n, zeros = len(sizes), np.zeros(len(sizes), np.int64)
    contrast = np.log(np.resize([0.1, 0.2], n))
    return Trials(sizes, contrast, zeros, np.arange(n), np.concatenate(list(hits.values())).astype(bool))


def test_a_large_draw_gives_the_true_a90() -> None:
    model = HitMissModel(trials(50_000))
    assert model.log_a90(CONTRAST) == pytest.approx(TRUE_A90, abs=0.02)
    assert model.log_a90(math.log(0.1)) == pytest.approx(TRUE_A90 + 2 * math.log(2) / 2.5, abs=0.03)
    assert model.pod(TRUE_A90, CONTRAST)[0] == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("by_region", [False, True])
def test_the_bound_is_above_the_true_a90_in_95_of_100_draws(by_region: bool) -> None:
    above = [HitMissModel(trials(300, seed), by_region).log_a90_95(CONTRAST, 3) >= TRUE_A90 for seed in range(60)]
    assert np.mean(above) >= 0.95 - 0.06  # and two standard errors


def test_the_interval_holds_the_true_probability_in_95_of_100_draws() -> None:
    inside = []
    for seed in range(60):
        _, low, high = HitMissModel(trials(300, seed)).pod(math.log(16), CONTRAST)
        inside.append(low <= 1 / (1 + math.exp(-2.5 * math.log(16 / 12))) <= high)
    assert np.mean(inside) >= 0.95 - 0.06


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([30, 100, 300]))
def test_bounds_lie_on_their_side(seed: int, n: int) -> None:
    model = HitMissModel(trials(n, seed, spread=1.0))
    assert model.log_a90(CONTRAST) <= model.log_a90_95(CONTRAST)
    for size in np.log(SIZES[::3]).tolist():
        pod, low, high = model.pod(size, CONTRAST)
        assert 0 <= low <= pod <= high <= 1


def test_a_sharp_edge_between_missed_and_found_has_an_a90() -> None:
    """Where an unpenalised fit has none: every small one is missed, every large one found."""
    model = HitMissModel(of_sizes({4.0: [False] * 20, 8.0: [False] * 20, 16.0: [True] * 20, 32.0: [True] * 20}))
    a90, bound = math.exp(model.log_a90(CONTRAST)), math.exp(model.log_a90_95(CONTRAST))
    assert 8 < a90 < 16
    assert a90 < bound < 32


def test_none_found_all_found_and_fewer_large_ones_found() -> None:
    sizes = {4.0: 20, 8.0: 20, 16.0: 20}
    assert HitMissModel(of_sizes({size: [False] * n for size, n in sizes.items()})).log_a90(CONTRAST) > math.log(16)
    all_found = HitMissModel(of_sizes({size: [True] * n for size, n in sizes.items()}))
    assert all_found.log_a90(CONTRAST) == pytest.approx(math.log(4))
    assert all_found.log_a90_95(CONTRAST) == pytest.approx(math.log(16))  # 29 of 29
    assert HitMissModel(of_sizes({size: [True] * 19 for size in sizes})).log_a90_95(CONTRAST) == math.inf  # of 28
    falling = HitMissModel(of_sizes({4.0: [True] * 20, 16.0: [False] * 20}))
    assert falling.log_a90(CONTRAST) == falling.log_a90_95(CONTRAST) == math.inf


def test_regions_have_a_level_of_their_own() -> None:
    drawn = trials(2000)
    blind = (drawn.region == 4) & (drawn.log_size < math.log(30))
    seen = Trials(drawn.log_size, drawn.log_contrast, drawn.region, drawn.image, drawn.hit & ~blind)
    model = HitMissModel(seen, by_region=True)
    others = [model.log_a90(CONTRAST, region) for region in range(9) if region != 4]
    assert model.log_a90(CONTRAST, 4) > max(others) + 0.5


def test_defects_on_one_image_count_for_less_where_images_differ() -> None:
    drawn = trials(400, spread=3.0, images=12)
    apart = Trials(drawn.log_size, drawn.log_contrast, drawn.region, np.arange(400), drawn.hit)
    assert HitMissModel(drawn).log_a90_95(CONTRAST) > HitMissModel(apart).log_a90_95(CONTRAST) + 0.05
