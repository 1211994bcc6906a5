"""What a line is doing at one moment: what the monitor, the metrics and the health check read. Plain JSON values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "STALE_S",
    "Alarm",
    "CameraSnapshot",
    "Latency",
    "LineSnapshot",
    "LineState",
    "ModelSnapshot",
    "RecipesSnapshot",
    "ShadowSnapshot",
    "ShiftSnapshot",
    "SinkSnapshot",
]

STALE_S = 10.0
"""A live camera that gives no result for this long, or a line without a sign of life, is not healthy."""

LineState = Literal["starting", "running", "stopping", "stopped"]


@dataclass(frozen=True)
class Latency:
    """From a frame's arrival to its verdict in milliseconds, over the last 512 results."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class ShiftSnapshot:
    """The counts of one camera since somebody started a shift, or since the line was started."""

    since: str  # UTC, ISO 8601
    ok: int
    ng: int
    invalid: int


@dataclass(frozen=True)
class CameraSnapshot:
    """The counts of one camera."""

    live: bool  # whether silence is a fault
    connected: bool
    reconnects: int
    frames: int
    ok: int
    ng: int
    invalid: int
    invalid_by_cause: dict[str, int]
    dropped: int  # frames that came while the line was busy
    fps: float | None  # results per second, over the last 512
    latency_ms: Latency | None
    last_result_age_s: float | None
    shift: ShiftSnapshot


@dataclass(frozen=True)
class SinkSnapshot:
    """What became of the results of one sink."""

    written: int  # what the sink took
    lost: int
    waiting: int  # in its queue, or in its spool
    error: str | None  # None once it is over


SwapTarget = Literal["shadow", "before", "anew"]
"""The shadow's model, the one in use before a lesson, or what lies at the bundle's path."""


@dataclass(frozen=True)
class ModelSnapshot:
    """The model in use."""

    bundle_id: str
    name: str
    engine: str
    provider: str
    precision: str
    threshold: float
    swaps: int
    swap_error: str | None
    swap_to: SwapTarget | None  # what a swap puts in use


@dataclass(frozen=True)
class RecipesSnapshot:
    """The recipes of the line by their names."""

    selected: str  # of frames that name none
    names: tuple[str, ...]
    loaded: tuple[str, ...]
    loading: str | None
    errors: dict[str, str]  # why some were not loaded


@dataclass(frozen=True)
class ShadowSnapshot:
    """How the second model would have judged."""

    bundle_id: str
    compared: int
    disagreed: int
    ok_to_ng: int
    ng_to_ok: int
    skipped: int
    error: str | None


@dataclass(frozen=True)
class Alarm:
    """Something a person must look at: `kind` for machines, `text` for people; `camera` is empty for the whole line."""

    kind: str
    text: str
    camera: str
    since: datetime


@dataclass(frozen=True)
class LineSnapshot:
    """All of it. Cameras, sinks and drift monitors go by their names."""

    started: datetime  # UTC
    uptime_s: float
    pulse_age_s: float  # since the thread that runs the engine was last between two frames
    state: LineState
    model: ModelSnapshot | None
    recipes: RecipesSnapshot | None
    shadow: ShadowSnapshot | None
    watch: dict[str, dict[str, Any]]  # DriftMonitor.snapshot() of each camera, about once a second
    sinks: dict[str, SinkSnapshot]
    cameras: dict[str, CameraSnapshot]
    alarms: tuple[Alarm, ...]

    @property
    def problems(self) -> list[str]:
        """Why the line doesn't inspect, one sentence each: its state, no pulse, a camera that is away or silent."""
        found = []
        if self.state != "running":
            found.append(f"the line is {self.state}")
        elif self.pulse_age_s >= STALE_S:
            found.append(f"the engine has not come back from a frame for {self.pulse_age_s:.0f} s")
        for name, camera in self.cameras.items():
            label, age_s = f"camera {name}" if name else "the camera", camera.last_result_age_s
            silent_s = self.uptime_s - self.pulse_age_s if age_s is None else age_s  # no result so far: since the start
            if not camera.connected:
                found.append(f"{label} is away")
            elif camera.live and silent_s >= STALE_S:
                found.append(f"{label} has given no result for {silent_s:.0f} s")
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the fields above, `problems`, and `healthy`, which is whether there are none."""
        values = dataclasses.asdict(self)
        values["started"] = self.started.isoformat(timespec="seconds")
        values["model"] = values["model"] or {}
        for alarm in values["alarms"]:
            alarm["since"] = alarm["since"].isoformat(timespec="seconds")
        problems = self.problems
        return {**values, "problems": problems, "healthy": not problems}
