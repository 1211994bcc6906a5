"""What flows along the line: a frame as a source gives it, and the result as the sinks get it.

Images are uint8 `(H, W, 3)` BGR. Wall times are UTC; `monotonic_s` is `time.monotonic`, for differences only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

from simplenet_edge.errors import DataError
from simplenet_edge.runtime.detector import Detection
from simplenet_edge.runtime.regions import Region, total_area
from simplenet_edge.spec import Frames

__all__ = ["Cause", "FrameRecord", "FrameResult", "Part", "VerdictName", "as_text"]

VerdictName = Literal["OK", "NG", "INVALID"]

Cause = Literal["source", "recipe", "engine", "deadline", "watch"]
"""Why a frame is INVALID: the camera or file gave no image, no loaded model belongs to the part's recipe, the engine
failed, the verdict came too late, or the watch (`simplenet_edge.runtime.drift.drift_monitor`) says that frames like
this one can't be trusted."""


_MOST_TEXT = 128


def as_text(name: str) -> str:
    """A name as text that can be encoded: the bytes of a file's name needn't be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Part:
    """The part that a frame shows, as whoever triggers the frame calls it. Raises DataError.

    `id` goes into the record, the pictures and the answer; `recipe` chooses the bundle that judges the frame, None the
    recipe that the line has selected. Both are printable and have at most 128 characters.
    """

    id: str | None = None
    recipe: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("part id", self.id), ("recipe", self.recipe)):
            if text is not None and not (text.isprintable() and 0 < len(text) <= _MOST_TEXT):
                raise DataError(
                    f"expected a {name} of 1 to {_MOST_TEXT} printable characters, found {text[:_MOST_TEXT]!r}"
                )


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame: an image, or an `error` that says why it can't be inspected. `frame_id` counts from 0 in its source.

    A gap in the ids of a live camera is frames that came while the line was busy; `dropped` counts them since the
    start. `part` is what is known of the part. A verdict after `due_s` of `time.monotonic` is too late. `Source.frames`
    fills in `camera`, and `offset_xy`: where the image lies in the camera's. `reply` is called with the result, for
    whoever waits for the verdict on just this frame; it must not block. `camera_frame_id` and `camera_time_ns` are the
    camera's own count and clock; None where it has none.
    """

    frame_id: int
    name: str
    wall_time: datetime
    image: Frames | None
    error: str | None = None
    camera: str = ""
    offset_xy: tuple[int, int] = (0, 0)
    monotonic_s: float = field(default_factory=time.monotonic)
    dropped: int = 0
    part: Part = Part()
    due_s: float = math.inf
    reply: Callable[[FrameResult], None] | None = None
    camera_frame_id: int | None = None
    camera_time_ns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", as_text(self.name))
        object.__setattr__(self, "error", self.error and as_text(self.error))

    @property
    def picture(self) -> Frames | None:
        """The image where it is uint8 `(H, W, 3)` with pixels; that of an INVALID frame may be anything, or None."""
        image = self.image
        if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            return None
        return image


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What became of one frame. `reason` and `cause` say why it is INVALID; None where OK or NG stands.

    `bundle_id` and `threshold` are None where no loaded model belongs to the frame's recipe. `detection` is None where
    the frame was never scored; a frame that is INVALID for its deadline or its drift
    keeps its score as evidence. `regions` are in pixels of the camera image; None where the bundle has no pixel
    threshold. `latency_ms` is from the frame's arrival to its verdict.
    """

    record: FrameRecord
    bundle_id: str | None
    threshold: float | None
    detection: Detection | None
    reason: str | None = None
    cause: Cause | None = None
    regions: tuple[Region, ...] | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        assert (self.reason is None) == (self.cause is None)
        assert self.detection is not None or self.reason is not None

    @property
    def verdict(self) -> VerdictName:
        """INVALID whenever there is a reason: never to be taken for OK."""
        return "INVALID" if self.reason is not None or self.detection is None else self.detection.verdict

    def to_dict(self) -> dict[str, Any]:
        """One JSON line: the same keys on every line, null where there is no value. Times are milliseconds."""
        detection, regions = self.detection, self.regions
        times = detection.times if detection else None
        return {
            "camera": self.record.camera,
            "frame_id": self.record.frame_id,
            "name": self.record.name,
            "part_id": self.record.part.id,
            "recipe": self.record.part.recipe,
            "wall_time": self.record.wall_time.isoformat(timespec="milliseconds"),
            "monotonic_s": round(self.record.monotonic_s, 6),
            "verdict": self.verdict,
            "score": detection.score if detection else None,
            "threshold": self.threshold,
            "cause": self.cause,
            "reason": self.reason,
            "area_px": None if regions is None else total_area(regions),
            "regions": None if regions is None else [region.to_dict() for region in regions],
            "dropped": self.record.dropped,
            "camera_frame_id": self.record.camera_frame_id,
            "camera_time_ns": self.record.camera_time_ns,
            "preprocess_ms": times.preprocess_ms if times else None,
            "infer_ms": times.infer_ms if times else None,
            "post_ms": times.post_ms if times else None,
            "latency_ms": self.latency_ms,
            "bundle_id": self.bundle_id,
        }
