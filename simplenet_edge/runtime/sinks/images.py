"""Results as images, for people: the model's view of the part with its heat and boxes, PNG or JPEG."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.files import write_bytes
from simplenet_edge.imaging.overlay import overlay
from simplenet_edge.imaging.preprocess import image_transform
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink
from simplenet_edge.spec import Frames

__all__ = ["OverlaySink"]

_NAME_LENGTH = 80  # of a frame's name inside a file name; file systems allow 255 bytes in all
_WRITTEN = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9]{8,}-[A-Za-z0-9._-]*-(OK|NG|INVALID)\.(png|jpg)")
_UNFINISHED = re.compile(rf"\.{_WRITTEN.pattern}\.[0-9]+\.tmp")
_BOX_BGR = (255, 230, 0)


class OverlaySink(Sink):
    """Writes the frame with its map and boxes as `<UTC time>-<frame id>-<name>-<verdict>.png`, whole or not at all.

    `only="ng"` keeps the NG frames, `"all"` the OK ones too; an INVALID frame that was never scored has nothing to
    draw.
    `source_folders` are those of the sources: a folder inside one is refused, for its overlays would be inspected.

    When all images here would come to more than `quota_bytes`, or the file system would have less than
    `min_free_bytes` left, the oldest are deleted, never a file of another name than this sink gives. Where that isn't
    enough the image is not written, and SinkError says so.
    """

    needs_images = True
    capacity = 8

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
        if (quota_bytes is not None and quota_bytes < 1) or min_free_bytes < 0:
            raise ConfigError(
                f"quota_bytes must be at least 1 and min_free_bytes at least 0, not {quota_bytes} and {min_free_bytes}"
            )
        for source in source_folders:
            if folder.resolve().is_relative_to(source.resolve()):
                raise ConfigError(
                    f"{folder} lies in {source}, where the images come from; name a folder outside it for overlays"
                )
        self.name = f"overlays in {folder}"
        self.folder = folder
        self.only = only
        self._format = image_format
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._sizes: dict[str, int] = {}

    @property
    def exclusive(self) -> Collection[str]:
        """The folder: two quotas in one would delete each other's images."""
        return [str(self.folder.resolve())]

    def open(self) -> None:
        """Create the folder; look what an earlier run left in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files = sorted(file for file in self.folder.iterdir() if file.is_file() and not file.is_symlink())
            for file in files:
                if _UNFINISHED.fullmatch(file.name):
                    file.unlink(missing_ok=True)
            self._sizes = {file.name: file.stat().st_size for file in files if _WRITTEN.fullmatch(file.name)}
        except OSError as error:
            raise SinkError(f"{self.folder} can't be used ({error.strerror}); name another folder") from error

    def close(self) -> None:
        """Nothing is held open between frames."""

    def write(self, result: FrameResult) -> None:
        """Write the overlay of a frame that is asked for."""
        detection = result.detection
        if detection is None or (self.only == "ng" and detection.verdict != "NG"):
            return
        encoded, data = cv2.imencode(f".{self._format}", _draw(result))
        assert encoded
        path = self.folder / f"{_stem(result)}.{self._format}"
        try:
            self._make_room(path.name, len(data))
            write_bytes(path, data.tobytes(), sync=False)
        except OSError as error:
            raise SinkError(f"{path} can't be written ({error.strerror}); free some space") from error
        self._sizes[path.name] = len(data)

    def _make_room(self, name: str, size: int) -> None:
        """Delete the oldest images that are in the way of a new one of `size` bytes."""
        self._sizes.pop(name, None)
        if self._quota_bytes is not None:
            if size > self._quota_bytes:
                raise SinkError(f"an overlay of {size} bytes is over the quota of {self._quota_bytes}; raise it")
            self._delete_oldest(sum(self._sizes.values()) + size - self._quota_bytes)
        if self._min_free_bytes == 0:
            return
        excess = self._min_free_bytes + size - shutil.disk_usage(self.folder).free
        if excess <= sum(self._sizes.values()):  # otherwise all would go, and it would not help
            self._delete_oldest(excess)
        if (free := shutil.disk_usage(self.folder).free) < self._min_free_bytes + size:
            raise SinkError(
                f"{self.folder}: {free} bytes are free and {self._min_free_bytes} are to stay free; "
                "the overlay is not written: free some space there"
            )

    def _delete_oldest(self, excess: int) -> None:
        while excess > 0 and self._sizes:
            name = next(iter(self._sizes))
            (self.folder / name).unlink(missing_ok=True)
            excess -= self._sizes.pop(name)


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


def _stem(result: FrameResult) -> str:
    record = result.record
    time = f"{record.wall_time:%Y%m%dT%H%M%S}.{record.wall_time.microsecond:06d}Z"
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", record.name)[-_NAME_LENGTH:]
    return f"{time}-{record.frame_id:08d}-{name}-{result.verdict}"
