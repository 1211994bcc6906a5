"""The last scores of one camera, thin enough to keep and to draw at any frame rate."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from simplenet_edge.runtime.records import FrameResult, VerdictName

__all__ = ["History", "Point"]

_SLOT_S = 0.1  # results closer together than this become one point
_POINTS = 3000  # five minutes of a fast line


@dataclass(slots=True)
class Point:
    """One result, or all those of a tenth of a second: the highest score, and how many were what.

    `id` counts from 0 within the camera. `sequence` is the sink's count of results when the point last changed.
    `time_s` is seconds since the epoch, by a clock that is never set back while the line runs.
    """

    id: int
    sequence: int
    time_s: float
    threshold: float | None
    score: float | None = None
    ok: int = 0
    ng: int = 0
    invalid: int = 0

    @property
    def verdict(self) -> VerdictName:
        """The worst of them."""
        return "NG" if self.ng else "INVALID" if self.invalid else "OK"

    def add(self, result: FrameResult, sequence: int) -> None:
        """Take in one more result."""
        self.sequence = sequence
        if result.threshold is not None:
            self.threshold = result.threshold
        if result.detection is not None:
            score = result.detection.score
            self.score = score if self.score is None else max(self.score, score)
        self.ok += result.verdict == "OK"
        self.ng += result.verdict == "NG"
        self.invalid += result.verdict == "INVALID"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; times are seconds."""
        return {
            "id": self.id,
            "time": round(self.time_s, 3),
            "score": self.score,
            "threshold": self.threshold,
            "verdict": self.verdict,
            "ok": self.ok,
            "ng": self.ng,
            "invalid": self.invalid,
        }


class History:
    """The points of one camera, oldest first, at most 3000. Not thread-safe."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=_POINTS)
        self._next_id = 0

    def add(self, result: FrameResult, sequence: int, time_s: float) -> None:
        """Add a result; `sequence` only ever grows."""
        if not self._points or not 0 <= time_s - self._points[-1].time_s < _SLOT_S:
            self._points.append(Point(self._next_id, sequence, time_s, result.threshold))
            self._next_id += 1
        self._points[-1].add(result, sequence)

    def since(self, sequence: int) -> list[dict[str, Any]]:
        """The points that changed after `sequence`, oldest first. The first may be one that was given before."""
        newest_first = []
        for point in reversed(self._points):
            if point.sequence <= sequence:
                break
            newest_first.append(point.to_dict())
        return newest_first[::-1]
