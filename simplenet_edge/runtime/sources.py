"""Where frames come from: a folder of images, one image, a video file, a camera.

Out: `FrameRecord`s, each with an image uint8 `(H, W, 3)` BGR or the reason why there is none. Times are UTC.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.preprocess import IMAGE_SUFFIXES, read_image, to_bgr
from simplenet_edge.spec import Frames

__all__ = ["Camera", "FrameRecord", "ImageFiles", "Source", "VideoFile", "open_source"]

_COUNTED_CONTAINERS = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # others have a count guessed from the duration
_COUNT_SLACK = 0.01  # share of frames that a container may count and not hold, e.g. an AVI's dropped ones

_SourceT = TypeVar("_SourceT", bound="Source")


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame: an image, or an `error` that says why there is none. `frame_id` counts from 0 within the source."""

    frame_id: int
    name: str
    wall_time: datetime
    image: Frames | None
    error: str | None = None


class Source(ABC):
    """A context manager that is iterated once, inside `with`. `name` is what the user called it."""

    folder: Path | None = None
    """The folder that is read from, where that is what the source does; nothing may be written into it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def __iter__(self) -> Iterator[FrameRecord]:
        """The frames in order. Raises SourceError when a camera stops giving them."""

    @abstractmethod
    def _open(self) -> None:
        """Take the device or the file. Raises SourceError when it gives no frames."""

    @abstractmethod
    def _close(self) -> None:
        """Give it back."""

    def __enter__(self: _SourceT) -> _SourceT:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def open_source(uri: str) -> Source:
    """The source that `uri` names, to be entered with `with`.

    A folder (its images, also in subfolders, in natural order), an image file, a video file, a camera as
    `v4l2:///dev/video0` or as OpenCV's number, e.g. `0`. Raises SourceError for anything else.
    """
    if re.fullmatch(r"[0-9]+", uri):
        return Camera(int(uri))
    scheme, separator, rest = uri.partition("://")
    if separator:
        if scheme != "v4l2" or not rest.startswith("/"):
            raise SourceError(f"{uri}: expected a path, a camera number or v4l2:///dev/videoN")
        return Camera(rest)
    path = Path(uri)
    if not path.exists():
        raise SourceError(f"{uri}: no such file or folder; a camera is v4l2:///dev/video0 or a number")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles(path)
    return VideoFile(path)


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
        files = [file for file in self.folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        if not files:
            raise SourceError(f"{self.folder}: no images in it; expected {', '.join(sorted(IMAGE_SUFFIXES))} files")
        self._files = sorted(files, key=_natural)

    def _close(self) -> None:
        self._files = []

    def __iter__(self) -> Iterator[FrameRecord]:
        if not self._files:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        for frame_id, file in enumerate(self._files):
            name = file.relative_to(self.folder).as_posix() if self.folder else file.name
            now = datetime.now(timezone.utc)
            try:
                yield FrameRecord(frame_id, name, now, read_image(file))
            except DataError as error:
                yield FrameRecord(frame_id, name, now, None, str(error))


class _Capture(Source):
    """What OpenCV's VideoCapture reads. `asked` is the call as the user could repeat it."""

    def __init__(self, name: str, target: str | int, backend: int, asked: str) -> None:
        super().__init__(name)
        self._target = target
        self._backend = backend
        self._asked = asked
        self._capture: cv2.VideoCapture | None = None

    def _open(self) -> None:
        capture = cv2.VideoCapture(self._target, self._backend)
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"OpenCV {cv2.__version__} could not open {self._asked}; {self._advice()}")
        self._capture = capture

    def _close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    @abstractmethod
    def _advice(self) -> str:
        """What to do when it doesn't open."""

    def _read(self) -> Frames | None:
        if self._capture is None:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        read, image = self._capture.read()
        return to_bgr(image) if read else None


class VideoFile(_Capture):
    """The frames of a video file. A file that ends before the count in its header ends with an error record."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), str(path), cv2.CAP_ANY, f"cv2.VideoCapture({str(path)!r})")
        self.path = path

    def _advice(self) -> str:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        return f"check that it is a whole video with a known codec (an image would end in {endings})"

    def __iter__(self) -> Iterator[FrameRecord]:
        frame_id = 0
        while (image := self._read()) is not None:
            yield FrameRecord(frame_id, self._frame_name(frame_id), datetime.now(timezone.utc), image)
            frame_id += 1
        if frame_id == 0:
            raise SourceError(f"{self.path}: the video opens but gives no frame; check it with ffprobe")
        declared = self._declared_count()
        if declared - frame_id > declared * _COUNT_SLACK:
            reason = f"the video ended after {frame_id} of {declared} frames; it is cut off or damaged: copy it again"
            yield FrameRecord(frame_id, self._frame_name(frame_id), datetime.now(timezone.utc), None, reason)

    def _declared_count(self) -> int:
        if self._capture is None or self.path.suffix.lower() not in _COUNTED_CONTAINERS:
            return 0
        return int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def _frame_name(self, frame_id: int) -> str:
        return f"{self.path.name}#{frame_id}"


class Camera(_Capture):
    """A live camera: a V4L2 device by its path, or OpenCV's number for it."""

    def __init__(self, device: str | int) -> None:
        if isinstance(device, str):
            super().__init__(device, device, cv2.CAP_V4L2, f"cv2.VideoCapture({device!r}, cv2.CAP_V4L2)")
        else:
            super().__init__(f"camera-{device}", device, cv2.CAP_ANY, f"cv2.VideoCapture({device})")

    def _advice(self) -> str:
        devices = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        return f"video devices here: {devices}; check the cable, that no other program holds it, and the group 'video'"

    def __iter__(self) -> Iterator[FrameRecord]:
        frame_id = 0
        while (image := self._read()) is not None:
            yield FrameRecord(frame_id, f"{self.name}#{frame_id}", datetime.now(timezone.utc), image)
            frame_id += 1
        raise SourceError(f"{self.name} stopped giving frames after {frame_id}; {self._advice()}")


def _natural(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", path.as_posix().casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.as_posix()
