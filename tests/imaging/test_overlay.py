"""What is drawn over an image, and what is left alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from simplenet_edge.imaging.overlay import HEAT_BGR, outline, overlay


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_nothing_is_drawn_up_to_the_normal_level(image: np.ndarray) -> None:
    cold = np.linspace(-9, 1, image[..., 0].size, dtype=np.float32).reshape(image.shape[:2])
    assert np.array_equal(overlay(image, cold, threshold=3, normal_level=1), image)


def test_only_pixels_above_the_normal_level_change(image: np.ndarray) -> None:
    before = image.copy()
    heat = np.zeros(image.shape[:2], np.float32)
    heat[10:20, 5:15] = 2.5
    drawn = overlay(image, heat, threshold=3, normal_level=1)
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    assert np.array_equal(np.any(drawn != image, axis=2), heat > 0)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("level", "colour"),
    [
        (3.0, np.mean(HEAT_BGR[1:3], axis=0)),  # at the threshold: the middle of the scale
        (5.0, HEAT_BGR[3]),  # as far above the threshold as the normal level is below
        (900.0, HEAT_BGR[3]),  # the end of the scale
    ],
)
def test_the_scale_is_fixed_by_the_threshold(level: float, colour: np.ndarray) -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    heat = np.full((4, 4), level, np.float32)
    heat[0, 0] = 1e6  # another pixel's heat doesn't change this one
    drawn = overlay(grey, heat, threshold=3, normal_level=1)
    assert drawn[2, 2] == pytest.approx(0.3 * 100 + 0.7 * np.asarray(colour), abs=1.5)


def test_heat_grows_with_the_map() -> None:
    black = np.zeros((1, 50, 3), np.uint8)
    drawn = overlay(black, np.linspace(0, 1, 50, dtype=np.float32)[None], threshold=1, normal_level=0)
    red = drawn[0, :, 2].astype(int)
    assert (np.diff(red) >= 0).all()
    assert (red[0], red[-1]) == (0, pytest.approx(0.7 * np.mean([HEAT_BGR[1][2], HEAT_BGR[2][2]]), abs=2))


def test_a_threshold_below_the_normal_level_draws_what_is_above_the_threshold(image: np.ndarray) -> None:
    heat = np.zeros(image.shape[:2], np.float32)
    heat[:, 25:] = 0.5
    drawn = overlay(image, heat, threshold=0.2, normal_level=0.4)
    assert np.array_equal(drawn[:, :25], image[:, :25])
    assert (drawn[:, 25:] != image[:, 25:]).any(axis=2).mean() > 0.9


def test_a_smaller_map_is_stretched_over_the_image(image: np.ndarray) -> None:
    heat = np.zeros((20, 25), np.float32)
    heat[:10] = 9
    drawn = overlay(image, heat, threshold=3, normal_level=1)
    assert drawn.shape == image.shape
    assert np.array_equal(drawn[24:], image[24:])
    assert not np.array_equal(drawn[:16], image[:16])


def test_the_outline_follows_the_mask_and_nothing_else(image: np.ndarray) -> None:
    before = image.copy()
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[10:30, 10:30] = True
    changed = np.any(outline(image, mask) != image, axis=2)
    assert changed[10:30, 10].all()
    assert not changed[14:26, 14:26].any()  # the defect itself stays visible
    assert not changed[:8].any()
    assert np.array_equal(image, before)
    assert np.array_equal(outline(image, np.zeros_like(mask)), image)


def test_overlay_and_threshold_import_on_a_device() -> None:
    # None in sys.modules makes an import fail: what the runtime uses must not need the training stack.
    absent = ("torch", "torchvision", "sklearn", "scipy", "matplotlib", "onnx")
    imports = "import simplenet_edge.imaging.overlay, simplenet_edge.threshold"
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); {imports}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
