"""What flows along the line: a frame as a source gives it, and the result as the sinks get it.

Images are uint8 `(H, W, 3)` BGR. Wall times are UTC; `monotonic_s` is `time.monotonic`, for differences only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from simplenet_edge.runtime.detector import Detection
from simplenet_edge.runtime.regions import Region, total_area
from simplenet_edge.spec import Frames

__all__ = ["Cause", "FrameRecord", "FrameResult", "VerdictName", "as_text"]

VerdictName = Literal["OK", "NG", "INVALID"]

Cause = Literal["source", "engine", "deadline", "watch"]
"""Why a frame is INVALID: the camera or file gave no image, the engine failed, the verdict came too late, or the
watch (`simplenet_edge.runtime.drift.drift_monitor`) says that frames like this one can't be trusted."""


def as_text(name: str) -> str:
    """A name as text that can be encoded: the bytes of a file's name needn't be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame: an image, or an `error` that says why it can't be inspected. `frame_id` counts from 0 in its source.

    A gap in the ids of a live camera is frames that came while the line was busy; `dropped` counts them since the
    start. `Source.frames` fills in `camera`, and `offset_xy`: where the image lies in the camera's. `reply` is called
    with the result, for whoever waits for the verdict on just this frame; it must not block. `camera_frame_id` and
    `camera_time_ns` are what the camera itself counts and says; None where it doesn't.
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
    reply: Callable[[FrameResult], None] | None = None
    camera_frame_id: int | None = None
    camera_time_ns: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", as_text(self.name))
        object.__setattr__(self, "error", self.error and as_text(self.error))


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What became of one frame. `reason` and `cause` say why it is INVALID; None where OK or NG stands.

    `detection` is None where the frame was never scored; a frame that is INVALID for its deadline or its drift
    keeps its score as evidence. `regions` are in pixels of the camera image; None where the bundle has no pixel
    threshold. `latency_ms` is from the frame's arrival to its verdict.
    """

    record: FrameRecord
    bundle_id: str
    threshold: float
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
