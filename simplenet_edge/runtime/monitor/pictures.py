"""Results as pictures for the monitor: the inspected part of the camera image, with its heat and its boxes on top.

Images are uint8 `(H, W, 3)` BGR, at most 800 pixels a side; JPEGs are bytes.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.imaging.overlay import overlay
from simplenet_edge.imaging.preprocess import image_transform
from simplenet_edge.runtime.detector import Detection
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.spec import Frames

__all__ = ["draw_result", "encode_jpeg"]

_MOST_PX = 800
_QUALITY = 85
_OUTSIDE = 0.35  # brightness of what the model doesn't see of the image
_BOX_BGR = (255, 230, 0)  # cyan: no colour of the heat scale


def draw_result(result: FrameResult, heat: bool = True) -> Frames | None:
    """What the camera saw and what the model says of it; None where the result has no image.

    With `heat` comes the map, boxes around the regions, and darkness over what the model's cut-out leaves out.
    """
    image, (x0, y0) = result.record.picture, result.record.offset_xy
    if image is None:
        return None
    image_hw = image.shape[:2]
    shrink = min(1.0, _MOST_PX / max(image_hw))
    width, height = max(1, round(image_hw[1] * shrink)), max(1, round(image_hw[0] * shrink))
    picture = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if not heat:
        return picture
    if result.detection is not None:
        picture = _with_heat(picture, image_hw, result.detection)
    line = max(1, round(max(width, height) / 320))
    for region in result.regions or ():
        left, top = (region.x - x0) * width / image_hw[1], (region.y - y0) * height / image_hw[0]
        right, bottom = left + region.width * width / image_hw[1], top + region.height * height / image_hw[0]
        corners = (int(left) - line, int(top) - line), (int(right) + line, int(bottom) + line)
        cv2.rectangle(picture, *corners, _BOX_BGR, line)
    return picture


def encode_jpeg(image: Frames) -> bytes:
    """An image uint8 `(H, W, 3)` BGR as a JPEG."""
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert encoded
    return data.tobytes()


def _with_heat(picture: Frames, image_hw: tuple[int, int], detection: Detection) -> Frames:
    """The picture of an image of `image_hw` with the map where the model's frame lay in it."""
    height, width = picture.shape[:2]
    (scale_x, shift_x), (scale_y, shift_y) = image_transform(image_hw, detection.spec)
    step_x, step_y = image_hw[1] / width, image_hw[0] / height  # image pixels in one of the picture's
    to_map = np.array(
        [
            [step_x / scale_x, 0, (step_x / 2 - shift_x) / scale_x - 0.5],
            [0, step_y / scale_y, (step_y / 2 - shift_y) / scale_y - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    placed: npt.NDArray[np.float32] = np.asarray(
        cv2.warpAffine(detection.map, to_map, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )
    drawn = overlay(picture, placed, detection.map_threshold, detection.normal_level)
    map_height, map_width = detection.map.shape
    rows = _seen(shift_y / step_y, scale_y * map_height / step_y, height)
    columns = _seen(shift_x / step_x, scale_x * map_width / step_x, width)
    if (rows, columns) == (slice(0, height), slice(0, width)):
        return drawn
    outside = np.asarray(picture * _OUTSIDE, np.uint8)
    outside[rows, columns] = drawn[rows, columns]
    return outside


def _seen(start: float, length: float, limit: int) -> slice:
    return slice(max(0, round(start)), min(limit, round(start + length)))
