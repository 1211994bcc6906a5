"""Anomaly maps drawn over the image, for people to look at. Numpy and OpenCV only: the runtime draws with it too.

Images are uint8 `(H, W, 3)` BGR, maps float32 raw scores `(H, W)`, masks bool `(H, W)`; nothing is changed in place.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.spec import Frames

__all__ = ["HEAT_BGR", "outline", "overlay"]

HEAT_BGR = ((90, 230, 255), (30, 140, 255), (40, 40, 230), (70, 0, 140))
"""The heat scale in equal steps: yellow, orange, red, dark red. Its middle is at the threshold."""
_OPACITY = 0.7
"""Share of the heat colour in a pixel at the threshold and above; it grows from 0 at the normal level."""
_OUTLINE_BGR = (255, 230, 0)


def overlay(image: Frames, anomaly_map: npt.NDArray[np.float32], threshold: float, normal_level: float) -> Frames:
    """The image uint8 `(H, W, 3)` BGR with the heat of its map float32 `(H, W)` over it, of the same size.

    The scale is fixed, so that two images can be compared and a good one stays clean: nothing is drawn up to
    `normal_level`, yellow and orange come up to `threshold`, red and dark red as far above it again. Where
    `threshold <= normal_level`, what is above the threshold is drawn in the middle colour and the rest is clean.
    A map of another size is stretched over the image; where the model saw a cut-out, give the model frame.
    """
    if anomaly_map.shape != image.shape[:2]:
        anomaly_map = np.asarray(cv2.resize(anomaly_map, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    span = threshold - normal_level
    heat = np.clip((anomaly_map - normal_level) / span, 0, 2) if span > 0 else 1.0 * (anomaly_map > threshold)
    colour = _heat_table()[np.rint(heat * 127.5).astype(np.uint8)]
    opacity = _OPACITY * np.minimum(heat, 1)[:, :, None]
    drawn = np.array(image)
    drawn[...] = np.rint(image * (1 - opacity) + colour * opacity)
    return drawn


def outline(image: Frames, mask: npt.NDArray[np.bool_]) -> Frames:
    """The image uint8 `(H, W, 3)` BGR with a line around each region of its mask bool `(H, W)`."""
    drawn = np.array(image)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, _OUTLINE_BGR, thickness=max(1, round(min(mask.shape) / 200)))
    return drawn


def _heat_table() -> npt.NDArray[np.float32]:
    """256 colours, float32 BGR `(256, 3)`, through the stops of the heat scale."""
    stops = np.linspace(0, 255, len(HEAT_BGR))
    return np.stack([np.interp(np.arange(256), stops, channel) for channel in np.transpose(HEAT_BGR)], axis=1).astype(
        np.float32
    )
