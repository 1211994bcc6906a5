"""Where a part looks anomalous: connected regions of the map, as boxes in pixels of the camera image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.imaging.preprocess import image_transform
from simplenet_edge.spec import InputSpec

__all__ = ["Region", "find_regions", "total_area"]

_MOST = 16  # a map above its threshold everywhere would fill the log


@dataclass(frozen=True)
class Region:
    """A connected part of the map above the pixel threshold: its box and area in camera pixels, its highest value."""

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def find_regions(
    anomaly_map: npt.NDArray[np.float32],
    pixel_threshold: float,
    spec: InputSpec,
    image_hw: tuple[int, int],
    offset_xy: tuple[int, int] = (0, 0),
) -> tuple[Region, ...]:
    """The regions of a map float32 `(H, W)` above the threshold, largest first, at most 16.

    `image_hw` is the size of the image that `preprocess` made the model frame from, and `offset_xy` where that image
    lay in the camera's; what letterboxing repeated around the image is cut off again.
    """
    above = (anomaly_map > pixel_threshold).astype(np.uint8)
    if not above.any():
        return ()
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:_MOST]
    (scale_x, shift_x), (scale_y, shift_y) = image_transform(image_hw, spec)
    regions = []
    for label in order:
        left, top, width, height, area = (int(value) for value in stats[label])
        x0, x1 = _span(left, width, scale_x, shift_x, image_hw[1])
        y0, y1 = _span(top, height, scale_y, shift_y, image_hw[0])
        if x1 <= x0 or y1 <= y0:
            continue
        box = (slice(top, top + height), slice(left, left + width))
        peak = float(anomaly_map[box][labels[box] == label].max())
        area_px = max(1, round(area * scale_x * scale_y))
        regions.append(Region(x0 + offset_xy[0], y0 + offset_xy[1], x1 - x0, y1 - y0, area_px, peak))
    return tuple(regions)


def total_area(regions: Sequence[Region]) -> int:
    """Camera pixels in all regions together."""
    return sum(region.area_px for region in regions)


def _span(start: int, length: int, scale: float, shift: float, limit: int) -> tuple[int, int]:
    """First and one past the last camera pixel of model pixels `start .. start + length`, within the image."""
    first, last = scale * start + shift, scale * (start + length) + shift
    return max(0, int(np.floor(first))), min(limit, int(np.ceil(last)))
