"""The last NG results as pictures, however many a line makes."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from simplenet_edge.runtime.monitor.pictures import draw_result, encode_jpeg
from simplenet_edge.runtime.records import FrameResult

__all__ = ["Gallery"]

_PER_S = 2.0  # pictures a second in the long run: one of a 5 megapixel image takes a slow core 0.1 s
_AT_ONCE = 4.0  # pictures after a pause
_ABOUT = ("camera", "frame_id", "name", "wall_time", "verdict", "score", "threshold", "area_px", "bundle_id")


@dataclass(frozen=True)
class _Entry:
    id: int
    about: dict[str, Any]
    jpeg: bytes


class Gallery:
    """The newest NG pictures, at most `size`. Thread-safe.

    Of a line that makes more than 2 a second (4 after a pause), the others are counted but not kept.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[_Entry] = deque(maxlen=size)
        self._total = 0
        self._not_kept = 0
        self._allowance = _AT_ONCE
        self._counted_s = time.monotonic()

    def add(self, result: FrameResult) -> None:
        """Count an NG result, and keep its picture where the rate allows; called from one thread."""
        keeps = self._spend()
        picture = draw_result(result) if keeps else None
        jpeg = None if picture is None else encode_jpeg(picture)
        with self._lock:
            self._total += 1
            if jpeg is None:
                self._not_kept += 1
                return
            line = result.to_dict()
            about = {**{key: line[key] for key in _ABOUT}, "regions": len(result.regions or ())}
            self._entries.append(_Entry(self._total, about, jpeg))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, newest first: `total` NG results, of which `not_kept` have no picture."""
        with self._lock:
            items = [
                {"id": entry.id, "image": f"api/ng/{entry.id}.jpg", **entry.about} for entry in reversed(self._entries)
            ]
            return {"total": self._total, "not_kept": self._not_kept, "items": items}

    def jpeg(self, entry_id: int) -> bytes | None:
        """The picture of an entry; None where it is gone."""
        with self._lock:
            return next((entry.jpeg for entry in self._entries if entry.id == entry_id), None)

    def _spend(self) -> bool:
        now = time.monotonic()
        self._allowance = min(_AT_ONCE, self._allowance + (now - self._counted_s) * _PER_S)
        self._counted_s = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
