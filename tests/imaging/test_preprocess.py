from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.preprocess import preprocess, preprocess_mask
from simplenet_edge.spec import InputSpec

SPECS = [
    InputSpec(48, 32),
    InputSpec(32, 32, "center-crop", 40),
    InputSpec(24, 40, "center-crop", 40),
    InputSpec(48, 32, "letterbox"),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=60)
def test_frames_and_masks_have_the_model_size(spec: InputSpec, height: int, width: int) -> None:
    frame = preprocess(np.full((height, width, 3), 7, np.uint8), spec)
    assert frame.dtype == np.uint8
    assert frame.shape == (*spec.size_hw, 3)
    assert frame.flags.c_contiguous
    assert np.all(frame == 7)
    mask = preprocess_mask(np.ones((height, width), np.bool_), spec)
    assert mask.dtype == np.bool_
    assert mask.shape == spec.size_hw
    assert mask.all()


def letterbox_window(image_hw: tuple[int, int], spec: InputSpec) -> tuple[slice, slice]:
    """Where the image itself lies in its frame."""
    scale = min(new / old for new, old in zip(spec.size_hw, image_hw, strict=True))
    sides = [(max(round(old * scale), 1), new) for old, new in zip(image_hw, spec.size_hw, strict=True)]
    rows, columns = (slice((new - side) // 2, (new - side) // 2 + side) for side, new in sides)
    return rows, columns


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(size_hw=st.tuples(*[st.integers(20, 120)] * 2), box=st.tuples(*[st.floats(0, 1)] * 4))
@settings(max_examples=100)
def test_a_mask_goes_where_its_pixels_go(
    spec: InputSpec, size_hw: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    """A white box on black: but for a pixel along its border, the frame is white exactly where the mask is True."""
    top, bottom = sorted(round(share * size_hw[0]) for share in box[:2])
    left, right = sorted(round(share * size_hw[1]) for share in box[2:])
    mask = np.zeros(size_hw, np.bool_)
    mask[top:bottom, left:right] = True
    frame = preprocess(np.repeat(mask[:, :, None].astype(np.uint8) * 255, 3, axis=2), spec)[:, :, 0]
    moved = preprocess_mask(mask, spec).astype(np.uint8)
    scales = [new / old for new, old in zip(spec.size_hw, size_hw, strict=True)]
    if spec.resize == "letterbox":
        scales = [min(scales)]
        window = letterbox_window(size_hw, spec)
        frame, moved = frame[window], moved[window]
    elif spec.resize_to is not None:
        scales = [spec.resize_to / min(size_hw)]
    border = math.ceil(max(scales))
    kernel = np.ones((2 * border + 1, 2 * border + 1), np.uint8)
    inside = cv2.erode(moved, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outside = cv2.dilate(moved, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    assert np.all(frame[inside == 1] == 255)
    assert np.all(frame[outside == 0] <= 128)  # not 0: a line under half a pixel wide may lie between two centres


@given(st.integers(1, 90), st.integers(1, 90))
def test_a_mask_takes_the_pixel_under_each_centre_in_every_version_of_opencv(height: int, width: int) -> None:
    mask = np.random.default_rng(height).random((height, width)) > 0.5
    rows = [math.floor(Fraction(2 * y + 1, 64) * height) for y in range(32)]
    columns = [math.floor(Fraction(2 * x + 1, 80) * width) for x in range(40)]
    np.testing.assert_array_equal(preprocess_mask(mask, InputSpec(32, 40)), mask[np.ix_(rows, columns)])


def test_a_mask_is_not_half_a_pixel_off() -> None:
    centres = np.zeros((96, 96), np.bool_)
    centres[1::3, 1::3] = True
    assert preprocess_mask(centres, InputSpec(32, 32)).all()


def test_center_crop_cuts_from_the_middle() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :24] = 50  # 24 = (80 - 32) / 2 columns fall away on each side
    image[:, 56:] = 50
    image[:4], image[36:] = 50, 50
    assert np.all(preprocess(image, InputSpec(32, 32, "center-crop", 40)) == 0)


@given(height=st.integers(1, 200), width=st.integers(1, 200))
@settings(max_examples=100)
def test_letterbox_keeps_the_aspect_and_loses_nothing(height: int, width: int) -> None:
    """A ramp to the right and one downwards: their slopes are equal, their ends are there, bars repeat the edge."""
    spec = InputSpec(48, 64, "letterbox")
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0], image[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    frame = preprocess(image, spec).astype(int)
    rows, columns = letterbox_window((height, width), spec)
    part = frame[rows, columns]
    new_hw = part.shape[:2]
    assert any(new == side for new, side in zip(new_hw, spec.size_hw, strict=True))
    for axis, (channel, side, new) in enumerate(zip((1, 0), (height, width), new_hw, strict=True)):
        ramp = np.moveaxis(part[:, :, channel], axis, 0)[:, 0]
        expected = np.clip((np.arange(new) + 0.5) * side / new - 0.5, 0, side - 1)
        assert np.abs(ramp - expected).max() <= 1
    around = [(rows.start, 48 - rows.stop), (columns.start, 64 - columns.stop)]
    assert np.array_equal(frame, np.pad(part, [*around, (0, 0)], mode="edge"))
    mask = preprocess_mask(image[:, :, 0] * 2 > width, spec)
    assert np.array_equal(mask, np.pad(mask[rows, columns], around, mode="edge"))


def test_letterbox_takes_any_strip() -> None:
    frame = preprocess(np.full((2, 60_000, 3), 9, np.uint8), InputSpec(288, 288, "letterbox"))
    assert frame.shape == (288, 288, 3)
    assert np.all(frame == 9)


def test_a_frame_of_the_right_size_is_left_alone(picture: np.ndarray) -> None:
    assert np.array_equal(preprocess(picture, InputSpec(60, 90)), picture)


def test_a_strip_is_refused_instead_of_filling_the_memory() -> None:
    line = np.zeros((2, 60_000, 3), np.uint8)
    with pytest.raises(DataError, match="60000x2"):
        preprocess(line, InputSpec(288, 288, "center-crop", 329))
    assert preprocess(line, InputSpec(288, 288)).shape == (288, 288, 3)
