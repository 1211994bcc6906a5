from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.data.augment import AugmentConfig, augment, augmented_frames
from simplenet_edge.errors import ConfigError

NOTHING: dict[str, Any] = {"brightness": 0, "gamma": 0, "gradient": 0, "shift": 0, "tilt_degrees": 0}


def frames(n: int, size_hw: tuple[int, int] = (40, 60), seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 200, (*size_hw, 3), dtype=np.uint8) for _ in range(n)]


@given(
    size_hw=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    copies=st.integers(1, 3),
    shift=st.floats(0.01, 0.5),
    brightness=st.floats(0, 0.9),
    rotate=st.floats(0, 180),
)
@settings(max_examples=40)
def test_frames_stay_frames_and_the_originals_are_there(
    size_hw: tuple[int, int], copies: int, shift: float, brightness: float, rotate: float
) -> None:
    config = AugmentConfig(copies, brightness=brightness, shift=shift, rotate_degrees=rotate)
    images = frames(2, size_hw)
    made = list(augmented_frames(iter(images), config, seed=3))
    assert len(made) == 2 * (1 + copies)
    assert all(frame.dtype == np.uint8 and frame.shape == (*size_hw, 3) for frame in made)
    assert np.array_equal(made[0], images[0])
    assert np.array_equal(made[1 + copies], images[1])


def test_the_seed_and_the_position_alone_decide() -> None:
    config = AugmentConfig(copies=2, rotate_degrees=10)
    same = frames(1)[0]
    first = list(augmented_frames([same, same], config, seed=0))
    assert all(np.array_equal(a, b) for a, b in zip(first, augmented_frames([same, same], config, seed=0), strict=True))
    assert not np.array_equal(first[1], first[2])
    assert not np.array_equal(first[1], first[4])
    assert not np.array_equal(first[1], list(augmented_frames([same], config, seed=1))[1])


def test_a_shift_moves_whole_pixels_and_no_further_than_asked() -> None:
    config = AugmentConfig(**{**NOTHING, "shift": 0.1})
    image = frames(1, (40, 60))[0]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        moved = augment(image, config, rng)
        where = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-6, 7)
            if np.array_equal(moved[4 + dy : 36 + dy, 6 + dx : 54 + dx], image[4:36, 6:54])
        ]
        assert len(where) == 1
        seen.add(where[0])
    assert {dy for dy, _ in seen} == set(range(-4, 5))
    assert {dx for _, dx in seen} == set(range(-6, 7))


def test_brightness_is_one_factor_for_all_pixels() -> None:
    config = AugmentConfig(**{**NOTHING, "brightness": 0.2})
    image = np.full((16, 16, 3), (50, 100, 250), np.uint8)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(300):
        made = augment(image, config, rng)
        assert (made == made[0, 0]).all()
        gain = made[0, 0, 1] / 100
        assert abs(int(made[0, 0, 0]) - 50 * gain) <= 0.75
        assert made[0, 0, 2] == 255 or abs(int(made[0, 0, 2]) - 250 * gain) <= 1.75
        gains.append(gain)
    assert 0.8 <= min(gains) < 0.82
    assert 1.18 < max(gains) <= 1.2


def test_gamma_keeps_black_and_white_and_bends_what_is_between() -> None:
    config = AugmentConfig(**{**NOTHING, "gamma": 0.25})
    image = np.full((16, 16, 3), (0, 128, 255), np.uint8)
    rng = np.random.default_rng(0)
    made = np.array([augment(image, config, rng)[0, 0] for _ in range(300)])
    assert (made[:, 0] == 0).all()
    assert (made[:, 2] == 255).all()
    assert made[:, 1].min() == pytest.approx(255 * (128 / 255) ** 1.25, abs=1.5)
    assert made[:, 1].max() == pytest.approx(255 * (128 / 255) ** 0.8, abs=1.5)


def test_a_gradient_leaves_the_middle_and_changes_the_ends() -> None:
    config = AugmentConfig(**{**NOTHING, "gradient": 0.15})
    image = np.full((33, 65, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    made = np.array([augment(image, config, rng)[:, :, 0] for _ in range(300)]).astype(int)
    assert (made[:, 16, 32] == 100).all()
    assert abs(made[:, 16] + made[:, 16, ::-1] - 200).max() <= 1  # as much brighter as darker
    assert 112 <= made[:, 16].max() <= 115
    assert made.max() <= 100 * (1 + 0.15 * math.sqrt(2)) + 1


def test_each_extra_frame_has_one_change() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    image[:, 10:] = 200
    rng = np.random.default_rng(0)
    made = [augment(image, AugmentConfig(tilt_degrees=0, shift=0.1), rng) for _ in range(200)]
    moved = [frame for frame in made if set(np.unique(frame)) == {100, 200}]
    assert 25 <= len(moved) <= 75  # a quarter of them


def test_a_turn_is_about_the_middle_and_within_its_range() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 32:] = 255  # a hand that points to the right
    config = AugmentConfig(**{**NOTHING, "rotate_degrees": 30})
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(200):
        turned = augment(image, config, rng)
        assert turned[32, 32].min() > 200
        ring = np.array([[round(32 - 20 * math.sin(a)), round(32 + 20 * math.cos(a))] for a in np.linspace(-1, 1, 401)])
        values = cv2.blur(turned, (3, 3))[ring[:, 0], ring[:, 1], 0].astype(float)
        angles.append(math.degrees(float(values @ np.linspace(-1, 1, 401) / values.sum())))
    assert -32 < min(angles) < -25
    assert 25 < max(angles) < 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"copies": 0}, "copies must be at least 1"),
        ({"shift": 0.6}, "shift must be within 0..0.5"),
        ({"brightness": -0.1}, "brightness must be within 0..0.9"),
        ({"rotate_degrees": math.nan}, "rotate_degrees must be within 0..180"),
        ({"gamma": 5}, "gamma must be within 0..4"),
        (NOTHING, "changes nothing"),
    ],
)
def test_ranges_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AugmentConfig(**options)
