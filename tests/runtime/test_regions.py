from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.imaging.preprocess import image_transform, preprocess
from simplenet_edge.runtime.regions import find_regions, total_area
from simplenet_edge.spec import InputSpec

STRETCH = InputSpec(64, 64)


def spots(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A map float32 `(64, 64)` of zeros with ones in boxes of x, y, width, height."""
    anomaly_map = np.zeros((64, 64), np.float32)
    for x, y, width, height in boxes:
        anomaly_map[y : y + height, x : x + width] = 1
    return anomaly_map


def test_boxes_and_areas_in_camera_pixels() -> None:
    anomaly_map = spots((4, 8, 2, 3), (40, 40, 10, 10))
    anomaly_map[45, 45] = 7
    large, small = find_regions(anomaly_map, 0.5, STRETCH, (128, 192))  # twice as high, three times as wide
    assert (small.x, small.y, small.width, small.height, small.area_px, small.peak) == (12, 16, 6, 6, 36, 1.0)
    assert (large.x, large.y, large.width, large.height, large.area_px, large.peak) == (120, 80, 30, 20, 600, 7.0)
    assert total_area([large, small]) == 636


def test_the_offset_of_a_cut_out() -> None:
    (region,) = find_regions(spots((1, 2, 3, 4)), 0.5, STRETCH, (64, 64), (100, 200))
    assert (region.x, region.y, region.width, region.height) == (101, 202, 3, 4)


def test_touching_corners_are_one_region_and_a_threshold_is_no_defect() -> None:
    assert len(find_regions(spots((0, 0, 2, 2), (2, 2, 2, 2)), 0.5, STRETCH, (64, 64))) == 1
    assert find_regions(spots((0, 0, 2, 2)), 1.0, STRETCH, (64, 64)) == ()


def test_a_map_of_many_spots_gives_the_sixteen_largest() -> None:
    boxes = [(8 * i, 8 * j, 1 + (i + j) % 3, 2) for i in range(8) for j in range(8)]
    regions = find_regions(spots(*boxes), 0.5, STRETCH, (64, 64))
    assert len(regions) == 16
    assert {region.area_px for region in regions} == {6}


def test_what_letterbox_repeats_is_not_in_the_image() -> None:
    spec = InputSpec(64, 64, resize="letterbox")  # a 32 x 64 image has bars above and below, 16 pixels each
    (region,) = find_regions(spots((10, 0, 4, 20)), 0.5, spec, (32, 64))
    assert (region.y, region.height) == (0, 4)
    assert find_regions(spots((10, 0, 4, 10)), 0.5, spec, (32, 64)) == ()


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "center-crop"])
@given(st.integers(40, 200), st.integers(40, 200), st.floats(0.35, 0.65), st.floats(0.35, 0.65))
def test_a_box_lies_over_the_spot_that_it_came_from(
    resize: str, height: int, width: int, down: float, right: float
) -> None:
    spec = InputSpec(64, 64, resize=resize, resize_to=70 if resize == "center-crop" else None)  # type: ignore[arg-type]
    image = np.zeros((height, width, 3), np.uint8)
    middle = np.array([down * height, right * width])
    top, left = (middle - 4).astype(int)
    image[top : top + 8, left : left + 8] = 255
    frame = preprocess(image, spec)
    if frame.max() < 100:
        return  # center-crop may cut the spot off
    region = find_regions(frame[:, :, 0].astype(np.float32), 0.4 * frame.max(), spec, (height, width))[0]
    scale = max(image_transform((height, width), spec)[axis][0] for axis in (0, 1))
    found = np.array([region.y + region.height / 2, region.x + region.width / 2])
    if resize != "center-crop":
        assert np.abs(found - (top + 4, left + 4)).max() <= 1.5 * scale + 1
    assert region.y >= 0
    assert region.y + region.height <= height
    assert region.x + region.width <= width
