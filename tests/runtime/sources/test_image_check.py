from __future__ import annotations

import math

import numpy as np
import pytest

from simplenet_edge.runtime.sources.image_check import ImageCheck
from simplenet_edge.spec import Frames


def noise(low: int, high: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(low, high, (480, 640, 3), dtype=np.uint8)


THIN_PART = noise(0, 4)
THIN_PART[:, :40] = noise(80, 90)[:, :40]


@pytest.mark.parametrize(
    ("image", "black"),
    [
        (noise(0, 1), True),
        (noise(0, 6), True),  # a covered sensor with its noise
        (noise(10, 14), True),  # and with an offset
        (noise(20, 24), False),  # dim, but light
        (THIN_PART, False),
    ],
)
def test_black(image: Frames, black: bool) -> None:
    fault = ImageCheck(math.inf, black=True).fault(image, 0.0)
    assert (fault is not None and "the picture is black" in fault) == black
    assert ImageCheck(math.inf, black=False).fault(image, 0.0) is None


def test_repeats_are_a_fault_once_they_last() -> None:
    check = ImageCheck(3.0, black=True)
    times = [0.0, 1.0, 2.0, 2.9, 3.0, 4.0]
    assert [check.fault(noise(90, 110), time) is None for time in times] == [True] * 4 + [False] * 2
    assert check.fault(noise(90, 110, seed=1), 5.0) is None
    assert check.fault(noise(90, 110, seed=1), 7.9) is None


def test_two_pictures_prove_nothing_however_far_apart() -> None:
    check = ImageCheck(3.0, black=True)
    assert all(check.fault(noise(90, 110), time) is None for time in (0.0, 100.0, 200.0))
    assert "3 times" in (check.fault(noise(90, 110), 300.0) or "")


def test_repeats_can_be_let_pass() -> None:
    check = ImageCheck(math.inf, black=True)
    assert all(check.fault(noise(90, 110), time) is None for time in range(100))
