from __future__ import annotations

import math

import numpy as np
import pytest

from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS, draw_sized

SIDE = 96
MIDDLE = (48.3, 47.6)


def grey(level: int = 120) -> Frames:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def textured(seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(100, 140, (SIDE, SIDE, 3), np.uint8)


def changed(before: Frames, after: Frames) -> np.ndarray:
    """Where a picture was changed: coordinates (n, 2) as (y, x)."""
    return np.argwhere((before != after).any(axis=2))


@pytest.mark.parametrize("kind", SIZED_KINDS)
@pytest.mark.parametrize("size", [2.0, 5.7, 23.0, 64.0])
def test_a_defect_is_as_large_as_stated_and_where_it_was_asked_for(kind: str, size: float) -> None:
    before = textured()
    after = draw_sized(np.random.default_rng(0), before, kind, size, 0.4, MIDDLE)
    places = changed(before, after) - np.array(MIDDLE[::-1])
    distances = np.hypot(*places.T)
    assert distances.max() <= size / 2 + 1.5
    assert distances.max() >= 0.7 * size / 2 - 0.5  # a ragged blob is smaller in most directions
    assert np.array_equal(before, textured())  # not in place


@pytest.mark.parametrize("kind", SIZED_KINDS)
@pytest.mark.parametrize("contrast", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("level", [0, 120, 255])
def test_a_contrast_is_a_share_of_the_full_scale_on_black_and_white_too(kind: str, contrast: float, level: int) -> None:
    after = draw_sized(np.random.default_rng(1), grey(level), kind, 40.0, contrast, MIDDLE)
    deepest = np.abs(after.astype(int) - level).max()
    assert deepest == pytest.approx(255 * contrast, abs=4)  # the edge of a dent's disc lies between two pixels


@pytest.mark.parametrize("kind", SIZED_KINDS)
@pytest.mark.parametrize("place", [(0.0, 0.0), (SIDE - 0.1, 3.0), (40.0, SIDE - 0.1)])
@pytest.mark.parametrize("size", [2.0, 400.0])
def test_what_lies_outside_is_cut_off(kind: str, place: tuple[float, float], size: float) -> None:
    before = textured()
    assert len(changed(before, draw_sized(np.random.default_rng(2), before, kind, size, 0.4, place)))


@pytest.mark.parametrize("kind", SIZED_KINDS)
def test_a_seed_draws_the_same_again_and_another_one_something_else(kind: str) -> None:
    pictures = [draw_sized(np.random.default_rng(seed), textured(), kind, 20.0, 0.4, MIDDLE) for seed in (3, 3, 4)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_kinds_look_as_they_are_described() -> None:
    rng = np.random.default_rng(5)
    scratch = changed(grey(), draw_sized(rng, grey(), "scratch", 45.0, 0.4, MIDDLE))
    assert len(scratch) < 45 * 6  # thin
    dent = draw_sized(rng, grey(), "dent", 30.0, 0.4, MIDDLE).astype(int) - 120
    assert dent.max() > 90
    assert dent.min() < -90
    missing = draw_sized(rng, textured(), "missing", 30.0, 0.2, MIDDLE)[44:52, 44:52]
    assert np.ptp(missing.reshape(-1, 3), axis=0).max() <= 1  # flat
    assert missing.mean() == pytest.approx(120 - 51, abs=2)
    added = draw_sized(rng, textured(), "added", 30.0, 0.2, MIDDLE)[44:52, 44:52]
    assert np.ptp(added) > 20  # with texture
    assert added.mean() == pytest.approx(120 + 51, abs=4)


def test_of_a_scratch_the_length_is_the_size() -> None:
    places = changed(grey(), draw_sized(np.random.default_rng(6), grey(), "scratch", 50.0, 0.4, MIDDLE))
    length = math.hypot(*np.ptp(places, axis=0))
    assert length == pytest.approx(50, abs=4)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no defect is called 'crack'"):
        draw_sized(np.random.default_rng(0), grey(), "crack", 5.0, 0.1, MIDDLE)
