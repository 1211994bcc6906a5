from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.comparison import Differences, compare, map_scale, verdict_flips
from simplenet_edge.spec import Prediction


def prediction(*scores: float) -> Prediction:
    maps = np.zeros((len(scores), 2, 2), np.float32)
    maps[:, 0, 0] = scores
    return Prediction(np.array(scores, np.float32), maps)


def test_differences_are_shares_of_the_range_of_the_maps() -> None:
    result = compare(prediction(0.0, 10.0), prediction(0.0, 8.0), threshold=4.0)
    assert (result.score_max, result.map_max) == (0.25, 0.25)
    assert (result.score_mean, result.map_mean) == (0.125, 0.25 / 8)
    assert (result.verdict_flips, result.n_frames) == (0, 2)


@pytest.mark.parametrize(
    ("threshold", "flips"),
    [(8.5, 1), (7.9, 0), (8.0, 0)],  # between the two; below both; at the reference, where rounding decides
)
def test_a_flip_is_a_verdict_that_differs_clearly(threshold: float, flips: int) -> None:
    assert compare(prediction(0.0, 9.0), prediction(0.0, 8.0), threshold).verdict_flips == flips


@pytest.mark.parametrize(
    ("values", "scale"),
    [((1.0, 4.0), 3.0), ((-4.0, -4.0), 4.0), ((0.0, 0.0), 1.0)],  # a range; flat maps: their magnitude; nothing at all
)
def test_the_scale_is_never_zero(values: tuple[float, float], scale: float) -> None:
    maps = np.array(values, np.float32).reshape(1, 1, 2)
    assert map_scale(Prediction(np.zeros(1, np.float32), maps)) == scale


@pytest.mark.parametrize("place", ["score", "map"])
@pytest.mark.parametrize("side", ["found", "expected"])
def test_what_is_not_a_number_is_never_lost(side: str, place: str) -> None:
    sides = {"found": prediction(0.0, 9.0), "expected": prediction(0.0, 8.0)}
    getattr(sides[side], place)[1] = np.nan
    apart = Differences()
    apart.add(prediction(0.0, 9.0), prediction(0.0, 8.0))
    apart.add(**sides)
    apart.add(prediction(0.0, 9.0), prediction(0.0, 8.0))
    assert not compare(sides["found"], sides["expected"], 4.0).worst <= 1e9
    assert not max(getattr(apart, f"{place}_max"), getattr(apart, f"{place}_mean")) <= 1e9


def test_a_flip_beside_the_threshold_is_borderline() -> None:
    found, expected = np.array([1.0, 3.0, 9.0]), np.array([2.1, 1.0, 8.0])
    flips = verdict_flips(found, expected, thresholds=(2.0, 2.0), room=0.2)
    assert flips.decided.tolist() == [False, True, False]
    assert flips.borderline.tolist() == [True, False, False]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_batches_add_up_to_the_whole(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, expected = (
        Prediction(
            rng.normal(size=sum(sizes)).astype(np.float32), rng.normal(size=(sum(sizes), 3, 2)).astype(np.float32)
        )
        for _ in range(2)
    )
    apart, start = Differences(), 0
    for size in sizes:
        part = slice(start, start + size)
        apart.add(*(Prediction(one.score[part], one.map[part]) for one in (found, expected)))
        start += size
    whole = compare(found, expected, 0.0)
    assert (apart.score_max, apart.map_max, apart.n_frames) == (whole.score_max, whole.map_max, whole.n_frames)
    assert (apart.score_mean, apart.map_mean) == pytest.approx((whole.score_mean, whole.map_mean))
