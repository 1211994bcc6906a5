"""Results as images, for people: the model's view of the part with its heat and boxes, PNG or JPEG."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from simplenet_edge.errors import ConfigError
from simplenet_edge.imaging.overlay import overlay
from simplenet_edge.imaging.preprocess import image_transform
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.kept_files import KeptFiles, PictureSink, stem
from simplenet_edge.spec import Frames

__all__ = ["OverlaySink"]

_BOX_BGR = (255, 230, 0)


class OverlaySink(PictureSink):
    """Writes the frame with its map and boxes as `<UTC time>-<frame id>-<name>-<verdict>.png`, whole or not at all.

    `only="ng"` keeps the NG frames, `"all"` the OK ones too; an INVALID frame that was never scored has nothing to
    draw.
    `source_folders`, `quota_bytes` and `min_free_bytes` are as in `KeptFiles`; where deleting the oldest images isn't
    enough the image is not written, and SinkError says so.
    """

    def __init__(
        self,
        folder: Path,
        only: Literal["ng", "all"] = "ng",
        source_folders: Collection[Path] = (),
        *,
        image_format: Literal["png", "jpg"] = "png",
        quota_bytes: int | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        if only not in ("ng", "all"):
            raise ConfigError(f"overlays are written for 'ng' or 'all' frames, not {only!r}")
        if image_format not in ("png", "jpg"):
            raise ConfigError(f"overlays are written as 'png' or 'jpg', not {image_format!r}")
        files = KeptFiles(folder, "overlay", source_folders, quota_bytes=quota_bytes, min_free_bytes=min_free_bytes)
        super().__init__(f"overlays in {folder}", files)
        self.folder = folder
        self.only = only
        self._format = image_format

    def write(self, result: FrameResult) -> None:
        """Write the overlay of a frame that is asked for."""
        detection = result.detection
        if detection is None or (self.only == "ng" and detection.verdict != "NG"):
            return
        encoded, data = cv2.imencode(f".{self._format}", _draw(result))
        assert encoded
        self._files.write("", stem(result, result.record.name), {f".{self._format}": data.tobytes()})


def _draw(result: FrameResult) -> Frames:
    """The model frame uint8 `(H, W, 3)` with heat and boxes."""
    detection, image = result.detection, result.record.image
    assert detection is not None
    drawn = overlay(detection.model_frame, detection.map, detection.map_threshold, detection.normal_level)
    if not result.regions or image is None:
        return drawn
    left, top = result.record.offset_xy
    height, width = image.shape[:2]
    (scale_x, shift_x), (scale_y, shift_y) = image_transform((height, width), detection.spec)
    drawn = np.ascontiguousarray(drawn)
    for region in result.regions:
        x0, x1 = ((region.x + dx - left - shift_x) / scale_x for dx in (0, region.width))
        y0, y1 = ((region.y + dy - top - shift_y) / scale_y for dy in (0, region.height))
        # The line lies around the region, not on it.
        cv2.rectangle(drawn, (round(x0) - 1, round(y0) - 1), (round(x1), round(y1)), _BOX_BGR, 1)
    return drawn
