"""The last NG and INVALID results as pictures, however many a line makes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from simplenet_edge.runtime.monitor.pictures import draw_result, encode_jpeg
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.store import kept_name

__all__ = ["Gallery"]

_PER_S = 2.0  # pictures per second in the long run: one of a 5 megapixel image takes a slow core 0.1 s
_AT_ONCE = 4.0  # pictures after a pause
_ABOUT = (
    *("camera", "frame_id", "name", "part_id", "recipe", "wall_time"),
    *("verdict", "score", "threshold", "reason", "area_px", "bundle_id"),
)


@dataclass(frozen=True)
class _Entry:
    id: int
    about: dict[str, Any]
    jpegs: tuple[bytes, bytes]  # without the map and with it


@dataclass
class _Shelf:
    """What is kept of one camera and verdict."""

    entries: deque[_Entry]
    total: int = 0
    allowance: float = _AT_ONCE
    counted_s: float = field(default_factory=time.monotonic)

    def spend(self) -> bool:
        """Whether one more picture is allowed now."""
        now_s = time.monotonic()
        self.allowance = min(_AT_ONCE, self.allowance + (now_s - self.counted_s) * _PER_S)
        self.counted_s = now_s
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True


class Gallery:
    """The newest pictures, at most `size` of each camera and verdict; not of OK results. Thread-safe.

    Where a camera gives more than 2 results of a verdict per second (4 after a pause), the others are counted but not
    kept.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._shelves: dict[tuple[str, str], _Shelf] = defaultdict(lambda: _Shelf(deque(maxlen=size)))
        self._next_id = 1

    def add(self, result: FrameResult) -> None:
        """Count a result, and keep its picture where the rate allows; called from one thread."""
        if result.verdict == "OK":
            return
        with self._lock:
            shelf = self._shelves[result.record.camera, result.verdict]
            shelf.total += 1
            if result.record.image is None or not shelf.spend():
                return
        plain, hot = draw_result(result, heat=False), draw_result(result)
        if plain is None or hot is None:
            return
        line = result.to_dict()
        kept = kept_name(result, "ng") if result.verdict == "NG" else None  # where `run --keep` puts it
        about = {**{key: line[key] for key in _ABOUT}, "regions": len(result.regions or ()), "kept": kept}
        jpegs = encode_jpeg(plain), encode_jpeg(hot)
        with self._lock:
            shelf.entries.append(_Entry(self._next_id, about, jpegs))
            self._next_id += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: `items` newest first, and the `total` of results of each camera and verdict."""
        with self._lock:
            entries = [entry for shelf in self._shelves.values() for entry in shelf.entries]
            totals = [
                {"camera": camera, "verdict": verdict, "total": shelf.total}
                for (camera, verdict), shelf in self._shelves.items()
            ]
        entries.sort(key=lambda entry: -entry.id)
        items = [{"id": entry.id, "image": f"api/gallery/{entry.id}.jpg", **entry.about} for entry in entries]
        return {"totals": totals, "items": items}

    def jpeg(self, entry_id: int, heat: bool = True) -> bytes | None:
        """The picture of an entry, with or without the map; None where it is gone."""
        with self._lock:
            entries = (entry for shelf in self._shelves.values() for entry in shelf.entries)
            return next((entry.jpegs[heat] for entry in entries if entry.id == entry_id), None)
