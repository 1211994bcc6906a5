"""Recorded frames: a folder of images, one image, a video file; every frame, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES, read_image
from simplenet_edge.imaging.folder import image_files, report_passed_over
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.capture import CaptureDevice, open_capture
from simplenet_edge.spec import Frames

__all__ = ["ImageFiles", "VideoFile", "natural_order"]

_COUNTED_CONTAINERS = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # others have a count guessed from the duration
_MOST_DAMAGED = 1000  # frames in a row that can't be decoded, before that counts as the end of the file
_COUNT_SLACK = 0.01  # share of frames that a container may count and not hold, e.g. an AVI's dropped ones


class ImageFiles(Source):
    """The images of a folder and its subfolders in natural order (2 before 10), or one image file.

    A file that can't be decoded gives a record with its error: it is neither fatal nor skipped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self.folder = path if path.is_dir() else None
        self._files: list[Path] = []

    def _open(self) -> None:
        if self.folder is None:
            self._files = [self.path]
            return
        try:
            others: list[Path] = []
            files = [file for file, _ in image_files(self.folder, others)]
        except OSError as error:
            raise SourceError(f"{error.filename}: can't be read ({error.strerror}); check permissions") from error
        report_passed_over(self.folder, others)
        if not files:
            raise SourceError(f"{self.folder}: no images in it; expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
        self._files = sorted(files, key=natural_order)

    def _close(self) -> None:
        self._files = []

    def __iter__(self) -> Iterator[FrameRecord]:
        if not self._files:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        for frame_id, file in enumerate(self._files):
            if self.stopping.is_set():
                return
            name = file.relative_to(self.folder).as_posix() if self.folder else file.name
            now = utc_now()
            try:
                yield FrameRecord(frame_id, name, now, read_image(file, self.bit_depth))
            except DataError as error:
                yield FrameRecord(frame_id, name, now, None, str(error))


class VideoFile(Source):
    """The frames of a video file. One that can't be decoded gives a record with an error, and so does the end of a file
    before the count in its header. (Where the header has no exact count, as in MKV, a cut-off end can't be noticed; nor
    can damage that FFmpeg conceals, which it does in all codecs but MJPEG.)
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self._device: CaptureDevice | None = None

    def _open(self) -> None:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        advice = f"check that it is a whole video with a known codec (an image would end in {endings})"
        call = f"cv2.VideoCapture({str(self.path)!r})"
        self._device = open_capture(str(self.path), cv2.CAP_ANY, call, advice)

    def _close(self) -> None:
        if self._device is not None:
            self._device.close()
            self._device = None

    def __iter__(self) -> Iterator[FrameRecord]:
        if self._device is None:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        declared = self._declared_count(self._device)
        frame_id = 0
        while True:
            damaged, image = self._next_image(self._device)
            if self.stopping.is_set():
                return
            if image is None:
                break
            for _ in range(damaged):
                yield self._damaged(frame_id)
                frame_id += 1
            yield FrameRecord(frame_id, self._frame_name(frame_id), utc_now(), image)
            frame_id += 1
        if frame_id == 0:
            raise SourceError(f"{self.path}: the video opens but gives no frame; check it with ffprobe")
        if declared - frame_id > declared * _COUNT_SLACK:
            reason = f"the video ended after {frame_id} of {declared} frames; it is cut off or damaged: copy it again"
            yield FrameRecord(frame_id, self._frame_name(frame_id), utc_now(), None, reason)
            return
        for last in range(frame_id, frame_id + damaged):
            yield self._damaged(last)

    def _damaged(self, frame_id: int) -> FrameRecord:
        reason = f"frame {frame_id} of {self.path} can't be decoded; the file is damaged: copy it again"
        return FrameRecord(frame_id, self._frame_name(frame_id), utc_now(), None, reason)

    def _next_image(self, device: CaptureDevice) -> tuple[int, Frames | None]:
        """How many frames before it could not be decoded, and the next image; None where there is none any more."""
        damaged = 0
        for failures in range(_MOST_DAMAGED + 1):
            if self.stopping.is_set():
                break
            try:
                return failures, device.read()
            except DataError:  # a frame, surely; the others may be the end
                damaged += 1
            except (SourceError, cv2.error):
                pass
        return damaged, None

    def _declared_count(self, device: CaptureDevice) -> int:
        return int(device.get(cv2.CAP_PROP_FRAME_COUNT)) if self.path.suffix.lower() in _COUNTED_CONTAINERS else 0

    def _frame_name(self, frame_id: int) -> str:
        return f"{self.path.name}#{frame_id}"


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """A sorting key: 2 before 10."""
    parts = re.split(r"([0-9]+)", path.as_posix().casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.as_posix()
