"""What the line is doing, kept up to date by its threads; a `LineSnapshot` of it is what everybody else reads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from simplenet_edge.runtime.hours import Counts, Hours
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.snapshot import (
    Alarm,
    CameraSnapshot,
    Latency,
    LineSnapshot,
    LineState,
    ModelSnapshot,
    RecipesSnapshot,
    ShadowSnapshot,
    ShiftSnapshot,
    SinkSnapshot,
)

__all__ = ["CameraCounts", "LineStatus"]

_RECENT = 512  # results that latencies and the frame rate come from


class CameraCounts:
    """The numbers of one camera. Not thread-safe by itself: `LineStatus` holds its lock around it."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self.connected = True
        self.reconnects = 0
        self.dropped = 0
        self.counts = Counts()
        self.hours = Hours()
        self._shift_since = datetime.now(timezone.utc)
        self._before_shift = Counts()
        self.causes: dict[str, int] = {}
        self.last_s: float | None = None
        self._latencies_ms: deque[float] = deque(maxlen=_RECENT)
        self._done_s: deque[float] = deque(maxlen=_RECENT)

    def add(self, result: FrameResult) -> None:
        """Count one result."""
        self.counts.add(result.verdict)
        self.hours.add(result.verdict, result.record.wall_time)
        if result.cause is not None:
            self.causes[result.cause] = self.causes.get(result.cause, 0) + 1
        self.dropped = result.record.dropped
        self.last_s = time.monotonic()
        self._done_s.append(self.last_s)
        if result.latency_ms is not None:
            self._latencies_ms.append(result.latency_ms)

    def start_shift(self) -> None:
        """Count the shift anew."""
        self._shift_since, self._before_shift = datetime.now(timezone.utc), replace(self.counts)

    def snapshot(self) -> CameraSnapshot:
        """The counts so far."""
        latency: Latency | None = None
        if self._latencies_ms:
            p50, p90, p99 = np.percentile(self._latencies_ms, (50, 90, 99)).tolist()
            latency = Latency(p50, p90, p99, max(self._latencies_ms))
        span = self._done_s[-1] - self._done_s[0] if len(self._done_s) > 1 else 0.0
        return CameraSnapshot(
            live=self.live,
            connected=self.connected,
            reconnects=self.reconnects,
            frames=self.counts.ok + self.counts.ng + self.counts.invalid,
            ok=self.counts.ok,
            ng=self.counts.ng,
            invalid=self.counts.invalid,
            invalid_by_cause=dict(self.causes),
            dropped=self.dropped,
            fps=(len(self._done_s) - 1) / span if span > 0 else None,
            latency_ms=latency,
            last_result_age_s=None if self.last_s is None else time.monotonic() - self.last_s,
            shift=ShiftSnapshot(
                self._shift_since.isoformat(timespec="seconds"),
                ok=self.counts.ok - self._before_shift.ok,
                ng=self.counts.ng - self._before_shift.ng,
                invalid=self.counts.invalid - self._before_shift.invalid,
            ),
        )


class LineStatus:
    """The state of a running line. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = datetime.now(timezone.utc)
        self._started_s = self._pulse_s = time.monotonic()
        self._state: LineState = "starting"
        self._model: ModelSnapshot | None = None
        self._recipes: RecipesSnapshot | None = None
        self._shadow: ShadowSnapshot | None = None
        self._drift: dict[str, dict[str, Any]] = {}
        self._sinks: dict[str, SinkSnapshot] = {}
        self._cameras: dict[str, CameraCounts] = {}
        self._alarms: dict[tuple[str, str], Alarm] = {}

    def add_camera(self, name: str, live: bool) -> None:
        """Start counting for a camera; `live` where silence is a fault."""
        with self._lock:
            self._cameras[name] = CameraCounts(live)

    def add(self, result: FrameResult) -> None:
        """Count one result of a camera that was added."""
        with self._lock:
            self._cameras[result.record.camera].add(result)

    def add_past(self, hours: Mapping[str, Hours]) -> None:
        """Begin with the hours of an earlier run, of the cameras that were added; before the first result."""
        with self._lock:
            for name in hours.keys() & self._cameras.keys():
                self._cameras[name].hours = hours[name]

    def hours(self) -> dict[str, list[dict[str, Any]]]:
        """The counts of the last seven days of each camera, by hour, as plain JSON values."""
        with self._lock:
            return {name: camera.hours.to_list() for name, camera in self._cameras.items()}

    def start_shift(self) -> None:
        """Count the shift of every camera anew."""
        with self._lock:
            for camera in self._cameras.values():
                camera.start_shift()

    def connection(self, name: str, connected: bool, reconnects: int) -> None:
        """Say whether a camera gives frames."""
        with self._lock:
            camera = self._cameras[name]
            camera.connected, camera.reconnects = connected, reconnects

    def pulse(self, state: LineState) -> None:
        """Say what the thread that runs the engine is doing, between two frames."""
        with self._lock:
            self._state, self._pulse_s = state, time.monotonic()

    def put_parts(
        self,
        model: ModelSnapshot,
        recipes: RecipesSnapshot,
        shadow: ShadowSnapshot | None,
        sinks: Mapping[str, SinkSnapshot],
    ) -> None:
        """Replace what is known of the model, of the recipes, of the model's shadow and of the sinks."""
        with self._lock:
            self._model, self._recipes, self._shadow, self._sinks = model, recipes, shadow, dict(sinks)

    def put_drift(self, drift: Mapping[str, dict[str, Any]]) -> None:
        """Replace what the drift monitors of the cameras say."""
        with self._lock:
            self._drift = dict(drift)

    def raise_alarm(self, kind: str, text: str, camera: str = "") -> bool:
        """Keep an alarm until it is cleared; False where it stood already, whose time and text then stay."""
        with self._lock:
            if (camera, kind) in self._alarms:
                return False
            self._alarms[camera, kind] = Alarm(kind, text, camera, datetime.now(timezone.utc))
            return True

    def clear_alarm(self, kind: str, camera: str = "") -> bool:
        """Drop an alarm; False where there was none."""
        with self._lock:
            return self._alarms.pop((camera, kind), None) is not None

    def snapshot(self) -> LineSnapshot:
        """All of it as it is now."""
        with self._lock:
            now_s = time.monotonic()
            return LineSnapshot(
                started=self._started,
                uptime_s=now_s - self._started_s,
                pulse_age_s=now_s - self._pulse_s,
                state=self._state,
                model=self._model,
                recipes=self._recipes,
                shadow=self._shadow,
                watch=self._drift,
                sinks=self._sinks,
                cameras={name: camera.snapshot() for name, camera in self._cameras.items()},
                alarms=tuple(self._alarms.values()),
            )
