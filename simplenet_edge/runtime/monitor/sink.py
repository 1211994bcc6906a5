"""What the monitor keeps of the results, within bounds: the newest, the last scores, the last pictures of bad parts."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from simplenet_edge.runtime.monitor.gallery import Gallery
from simplenet_edge.runtime.monitor.history import History
from simplenet_edge.runtime.monitor.pictures import draw_result, encode_jpeg
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink

__all__ = ["MonitorSink"]

_RANK = {"OK": 0, "INVALID": 1, "NG": 2}


@dataclass
class _Picture:
    """The last encoding of a camera's picture, with or without heat."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sequence: int = 0
    made_s: float = float("-inf")
    jpeg: bytes | None = None


@dataclass
class _Camera:
    """`newest` and `shown` are results with their sequence number; they differ only while a worse one is held."""

    newest: tuple[int, FrameResult]
    shown: tuple[int, FrameResult]
    shown_s: float
    history: History = field(default_factory=History)
    pictures: tuple[_Picture, _Picture] = field(default_factory=lambda: (_Picture(), _Picture()))

    def look(self, now: float, hold_s: float) -> tuple[int, FrameResult]:
        """What to show at the monotonic time `now`."""
        is_worse = _RANK[self.newest[1].verdict] < _RANK[self.shown[1].verdict]
        if self.newest is not self.shown and not (is_worse and now - self.shown_s < hold_s):
            self.shown, self.shown_s = self.newest, now
        return self.shown


class MonitorSink(Sink):
    """Takes a result in microseconds; pictures are encoded when somebody asks, and of NG and INVALID
    results a few per second."""

    name = "monitor"
    needs_images = True
    capacity = 8

    def __init__(self, gallery_size: int = 24, *, hold_s: float = 0.75, picture_s: float = 0.2) -> None:
        """`hold_s`: how long a worse verdict is shown; longer than the page takes to ask again, so that it sees each.

        `picture_s`: between two encodings of one camera's picture, however many look at it.
        """
        self.hold_s, self._picture_s = hold_s, picture_s
        self.gallery = Gallery(gallery_size)
        self._lock = threading.Lock()
        self._cameras: dict[str, _Camera] = {}
        self._sequence = 0
        self._epoch_s = time.time() - time.monotonic()

    def open(self) -> None:
        """Nothing to take."""

    def close(self) -> None:
        """What is kept stays, for those who still look."""

    def write(self, result: FrameResult) -> None:
        """Take one result."""
        name = result.record.camera
        now = time.monotonic()
        with self._lock:
            self._sequence += 1
            item = (self._sequence, result)
            camera = self._cameras.setdefault(name, _Camera(item, item, now))
            camera.newest = item
            camera.look(now, self.hold_s)
            camera.history.add(result, self._sequence, self._epoch_s + result.record.monotonic_s)
        self.gallery.add(result)

    def history(self, since: int = 0, camera: str | None = None) -> dict[str, Any]:
        """What changed after result number `since`, as plain JSON values; of one camera or of all.

        For each camera the `points` that changed, and the result to show: the newest, but a worse one stays for
        `hold_s` so that a person gets to see it. `sequence` is what to ask with next time.
        """
        now = time.monotonic()
        with self._lock:
            cameras = {
                name: {"shown": _shown(*kept.look(now, self.hold_s)), "points": kept.history.since(since)}
                for name, kept in self._cameras.items()
                if camera is None or name == camera
            }
            return {"sequence": self._sequence, "now": round(self._epoch_s + now, 3), "cameras": cameras}

    def picture(self, name: str, heat: bool = True) -> bytes | None:
        """The JPEG of the result that is shown of a camera, or one newer; None where there is no image.

        Encodes at most every `picture_s`, and waits for as long where somebody else has just had it done.
        """
        with self._lock:
            camera = self._cameras.get(name)
            if camera is None:
                return None
            asked, _ = camera.look(time.monotonic(), self.hold_s)
        kept = camera.pictures[heat]
        with kept.lock:
            if kept.sequence >= asked:
                return kept.jpeg
            time.sleep(max(0.0, kept.made_s + self._picture_s - time.monotonic()))
            with self._lock:
                sequence, result = camera.look(time.monotonic(), self.hold_s)
            picture = draw_result(result, heat)
            kept.jpeg = None if picture is None else encode_jpeg(picture)
            kept.sequence, kept.made_s = sequence, time.monotonic()
            return kept.jpeg


def _shown(sequence: int, result: FrameResult) -> dict[str, Any]:
    return {**result.to_dict(), "sequence": sequence, "has_image": result.record.image is not None}
