from __future__ import annotations

import numpy as np
import pytest

from simplenet_edge.benchmark.statistics import mean_interval, ratio_of_medians, summarise, thinned


def correlated(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    """Times about 10 ms; each is like the one before by the correlation `memory`."""
    noise, values = rng.normal(size=n + 300), np.empty(n + 300)
    state = 0.0
    for i, step in enumerate(noise):
        state = memory * state + np.sqrt(1 - memory**2) * step
        values[i] = state
    return 10 + values[300:]


def test_the_figures_are_those_of_the_calls() -> None:
    calls_ms = np.arange(1.0, 101.0)
    latency = summarise(calls_ms)
    assert latency.calls == 100
    assert latency.mean_ms == 50.5
    assert (latency.p50_ms, latency.p90_ms, latency.max_ms) == (50.5, pytest.approx(90.1), 100.0)
    assert (latency.p95_ms, latency.p99_ms) == (pytest.approx(95.05), pytest.approx(99.01))
    assert latency.cv == pytest.approx(calls_ms.std() / 50.5)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_interval_of_the_mean_holds_it_though_neighbours_are_alike(memory: float) -> None:
    intervals = [mean_interval(correlated(np.random.default_rng(seed), 1000, memory)) for seed in range(60)]
    assert np.mean([low <= 10 <= high for low, high in intervals]) >= 0.9


def test_the_interval_of_few_calls_is_wide_and_of_equal_ones_a_point() -> None:
    low, high = mean_interval(np.array([9.0, 11.0]))
    assert high - low > 20  # one degree of freedom
    assert mean_interval(np.full(7, 3.0)) == (3.0, 3.0)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_two_runs_of_the_same_show_no_difference(memory: float) -> None:
    covered = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ratio, (low, high) = ratio_of_medians(correlated(rng, 300, memory), correlated(rng, 300, memory))
        assert low <= ratio <= high
        covered += low <= 1 <= high
    assert covered >= 10


def test_a_difference_is_shown(rng: np.random.Generator) -> None:
    before = correlated(rng, 600, 0.5)
    ratio, (low, high) = ratio_of_medians(before, correlated(rng, 400, 0.5) * 1.2)
    assert ratio == pytest.approx(1.2, rel=0.03)
    assert 1.1 < low < 1.2 < high < 1.3


def test_thinning_keeps_the_order_and_both_ends() -> None:
    values = np.arange(10_001.0)
    kept = thinned(values, 2000)
    assert len(kept) == 2000
    assert (kept[0], kept[-1]) == (0, 10_000)
    assert set(np.diff(kept)) == {5.0, 6.0} or np.ptp(np.diff(kept)) <= 1
    assert thinned(values, 20_000) is values
