"""Where the heat and the boxes come to lie on the camera image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simplenet_edge.runtime.detector import Detection, StageTimes
from simplenet_edge.runtime.monitor.pictures import draw_result
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.regions import find_regions
from simplenet_edge.runtime.sources.base import View
from simplenet_edge.spec import Frames, InputSpec
from tests.runtime.monitor.conftest import WHEN

GREY = 100
CYAN = (255, 230, 0)
STRETCH = InputSpec(32, 32)
LETTERBOX = InputSpec(32, 32, resize="letterbox")
CROP = InputSpec(24, 24, resize="center-crop", resize_to=32)


def result_of(image: Frames, spec: InputSpec, hot: tuple[slice, slice], view: View) -> FrameResult:
    """NG for a map that is hot in some of its pixels."""
    anomaly_map = np.zeros(spec.size_hw, np.float32)
    anomaly_map[hot] = 4.0
    frame = np.zeros((*spec.size_hw, 3), np.uint8)
    verdict = Detection("NG", 4.0, 1.0, anomaly_map, frame, spec, StageTimes(1, 1, 1), 0.0, 1.0)
    record = view.crop(FrameRecord(0, "part", WHEN, image))
    assert record.image is not None
    regions = find_regions(anomaly_map, 1.0, spec, record.image.shape[:2], record.offset_xy)
    return FrameResult(record, "id", 1.0, verdict, regions=regions)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (one past the last) of what is True."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize(
    ("spec", "view", "hot", "expected"),
    [
        (STRETCH, View(), (slice(8, 16), slice(16, 24)), (160, 40, 240, 80)),  # 10 and 5 pixels a cell
        (LETTERBOX, View(), (slice(8, 16), slice(16, 24)), (160, 0, 240, 80)),  # the upper quarter is no image
        (CROP, View(), (slice(0, 6), slice(0, 6)), (100, 20, 130, 50)),  # 5 pixels a cell, cut out of the middle
        (STRETCH, View((160, 0, 160, 160)), (slice(0, 16), slice(0, 16)), (0, 0, 80, 80)),  # within the view
    ],
)
def test_heat_and_box_lie_where_the_model_saw_it(
    spec: InputSpec, view: View, hot: tuple[slice, slice], expected: tuple[int, int, int, int]
) -> None:
    image = np.full((160, 320, 3), GREY, np.uint8)
    result = result_of(image, spec, hot, view)
    picture = draw_result(result)
    assert picture is not None
    assert result.record.image is not None
    assert picture.shape == result.record.image.shape
    red = (picture[:, :, 2] > GREY + 10) & (picture[:, :, 0] < GREY - 10)
    assert np.abs(np.subtract(box_of(red), expected)).max() <= 6  # the heat fades over one cell
    line = (picture == CYAN).all(axis=2)
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = expected
    outside = (max(0, x0 - 1), max(0, y0 - 1), min(width, x1 + 2), min(height, y1 + 2))
    assert box_of(line) == outside


def test_what_the_model_does_not_see_is_dark() -> None:
    image = np.full((160, 320, 3), GREY, np.uint8)
    picture = draw_result(result_of(image, CROP, (slice(0, 0), slice(0, 0)), View()))
    assert picture is not None
    assert box_of((picture == GREY).all(axis=2)) == (100, 20, 220, 140)
    assert picture.min() == GREY * 0.35


def test_a_large_image_is_shown_smaller() -> None:
    image = np.full((1500, 3000, 3), GREY, np.uint8)
    picture = draw_result(result_of(image, STRETCH, (slice(8, 16), slice(16, 24)), View()))
    assert picture is not None
    assert picture.shape == (400, 800, 3)
    line = (picture == CYAN).all(axis=2)
    assert np.abs(np.subtract(box_of(line), (400, 100, 600, 200))).max() <= 6


def invalid(image: Any, view: View = View()) -> FrameResult:  # noqa: B008
    return FrameResult(view.crop(FrameRecord(0, "part", WHEN, image)), "id", 1.0, None, "it can't be used", "source")


@pytest.mark.parametrize(
    "image",
    [
        None,
        np.zeros((8, 8), np.uint8),  # grey
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_no_picture_of_what_is_no_image(image: object) -> None:
    assert draw_result(invalid(image)) is None


def test_an_image_too_small_for_its_view_is_shown_whole() -> None:
    picture = draw_result(invalid(np.full((8, 8, 3), GREY, np.uint8), View((4, 4, 8, 8))))
    assert picture is not None
    assert picture.shape == (8, 8, 3)
