"""What OpenCV's VideoCapture opens: video files, V4L2 devices, FFmpeg streams, GStreamer pipelines."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import cv2
import numpy as np

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import decode_image, to_bgr
from simplenet_edge.spec import Frames
from simplenet_edge.system import video_io

__all__ = ["CaptureDevice", "has_gstreamer", "open_capture", "without_password"]

_JPEG_CODES = frozenset(cv2.VideoWriter.fourcc(*code) for code in ("MJPG", "mjpg", "jpeg", "JPEG"))

_MOST_BEHIND = 1000  # frames
_SHORTEST_MS = 8  # between two frames; the first two of a stream may name the same time

_SECRET = re.compile(
    r"""([?&][^=&\s]*=|\b[\w-]*(?:pw|pwd|pass|passwd|password|token|key|secret|auth)=)("[^"]*"|'[^']*'|[^&\s]+)""",
    re.IGNORECASE,
)


class CaptureDevice:
    """An open VideoCapture; uint8 `(H, W, 3)` BGR. With `gives_jpegs`, what it gives are still encoded.

    Frames are turned clockwise by `turn` degrees, a multiple of 90.
    """

    def __init__(self, capture: cv2.VideoCapture, gives_jpegs: bool = False, turn: int = 0) -> None:
        self._capture = capture
        self._gives_jpegs = gives_jpegs
        self._turn = turn

    def read(self) -> Frames:
        """The next image. Raises SourceError when none comes, DataError for one that can't be used."""
        if not self._capture.grab():
            raise SourceError("it stopped giving frames; check the camera, its cable and its network")
        decoded, image = self._capture.retrieve()
        if not decoded:
            raise DataError("the frame can't be decoded; check the camera, its cable and its network")
        frame = decode_image(image.tobytes()) if self._gives_jpegs else to_bgr(image)
        return np.ascontiguousarray(np.rot90(frame, -self._turn // 90))

    def catch_up(self) -> None:
        """Pass over the frames of a live stream that came while it was being opened, and are handed out at once."""
        shown_ms: float | None = None  # when a frame is to be shown, from the begin of the stream
        for _ in range(_MOST_BEHIND):
            began_s = time.monotonic()
            if not self._capture.grab():
                return  # as `read` will find
            waited_ms = (time.monotonic() - began_s) * 1000
            before_ms, shown_ms = shown_ms, self.get(cv2.CAP_PROP_POS_MSEC)
            if before_ms is not None and waited_ms >= max(_SHORTEST_MS, shown_ms - before_ms) / 2:
                return

    def get(self, property_id: int) -> float:
        """A property by OpenCV's number."""
        return float(self._capture.get(property_id))

    def set(self, property_id: int, value: float) -> bool:
        """Ask for a property; False where it can't be asked for. What came of it, `get` says."""
        return bool(self._capture.set(property_id, value))

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


def open_capture(
    target: str | int, backend: int, call: str, advice: str, parameters: Mapping[int, int] | None = None
) -> CaptureDevice:
    """Open it. `call` is the Python call as the user could repeat it. Raises SourceError, with it and the advice."""
    flat = [number for pair in (parameters or {}).items() for number in pair]
    try:
        capture = cv2.VideoCapture(target, backend, flat)
    except cv2.error as error:
        raise SourceError(f"OpenCV {cv2.__version__} could not open {call} ({error.err}); {advice}") from None
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"OpenCV {cv2.__version__} could not open {call}; {advice}")
    if capture.getBackendName() != "FFMPEG":
        return CaptureDevice(capture)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # what it is by default depends on the version
    # FFmpeg conceals damage, so that JPEGs are taken as they are.
    is_jpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) in _JPEG_CODES and capture.set(cv2.CAP_PROP_FORMAT, -1)
    return CaptureDevice(capture, is_jpeg, _turn(capture))


def _turn(capture: cv2.VideoCapture) -> int:
    """Degrees by which the container says that its frames are to be turned clockwise; 0 where it says anything else."""
    degrees = round(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    if cv2.__version__.startswith("4.6."):  # in Debian 12 and Ubuntu 24.04; this version alone counts the other way
        degrees = -degrees % 360
    return degrees if degrees % 90 == 0 else 0


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; pip's wheels weren't, though they have `cv2.CAP_GSTREAMER`."""
    return video_io(cv2.getBuildInformation())["GStreamer"]


def without_password(url: str) -> str:
    """An address or a pipeline as it may be logged: `rtsp://user:secret@host/1` becomes `rtsp://***@host/1`.

    Rather too much is hidden than too little: what is between the first colon and the last `@`, each value of a query,
    and values such as `user-pw=secret` in a pipeline.
    """
    return _SECRET.sub(r"\1***", re.sub(r"(:/*|//).*@", r"\1***@", url, count=1, flags=re.DOTALL))
