"""What the line is doing, as numbers: counted by the stream, read by the metrics, the monitor and the health check."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from simplenet_edge.runtime.records import FrameResult

__all__ = ["STALE_S", "Alarm", "CameraCounts", "LineStatus", "problems"]

_RECENT = 512  # results that latencies and the frame rate come from
STALE_S = 10.0
"""Without a sign of life for so long a live camera, or the line itself, is not healthy."""


@dataclass(frozen=True)
class Alarm:
    """Something a person must look at: `kind` for machines, `text` for people; `camera` is empty for the whole line."""

    kind: str
    text: str
    camera: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class CameraCounts:
    """The numbers of one camera. Not thread-safe by itself: `LineStatus` holds its lock around it."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self.connected = True
        self.reconnects = 0
        self.dropped = 0
        self.verdicts = {"OK": 0, "NG": 0, "INVALID": 0}
        self.causes: dict[str, int] = {}
        self.last_s: float | None = None
        self._latencies_ms: deque[float] = deque(maxlen=_RECENT)
        self._done_s: deque[float] = deque(maxlen=_RECENT)

    def add(self, result: FrameResult) -> None:
        """Count one result."""
        self.verdicts[result.verdict] += 1
        if result.cause is not None:
            self.causes[result.cause] = self.causes.get(result.cause, 0) + 1
        self.dropped = result.record.dropped
        self.last_s = time.monotonic()
        self._done_s.append(self.last_s)
        if result.latency_ms is not None:
            self._latencies_ms.append(result.latency_ms)

    def snapshot(self) -> dict[str, Any]:
        """Plain JSON values; `fps` and `latency_ms` are of the last 512 results."""
        latency: dict[str, float] | None = None
        if self._latencies_ms:
            p50, p90, p99 = np.percentile(self._latencies_ms, (50, 90, 99)).tolist()
            latency = {"p50": p50, "p90": p90, "p99": p99, "max": max(self._latencies_ms)}
        span = self._done_s[-1] - self._done_s[0] if len(self._done_s) > 1 else 0.0
        return {
            "live": self.live,
            "connected": self.connected,
            "reconnects": self.reconnects,
            "frames": sum(self.verdicts.values()),
            "ok": self.verdicts["OK"],
            "ng": self.verdicts["NG"],
            "invalid": self.verdicts["INVALID"],
            "invalid_by_cause": dict(self.causes),
            "dropped": self.dropped,
            "fps": (len(self._done_s) - 1) / span if span > 0 else None,
            "latency_ms": latency,
            "last_result_age_s": None if self.last_s is None else time.monotonic() - self.last_s,
        }


class LineStatus:
    """The state of a running line. Every method may be called from any thread.

    `model` and `sinks` are plain JSON values that the stream keeps up to date; `snapshot` is all of it:

        state            starting, running, stopping or stopped
        started          UTC, ISO 8601;  uptime_s  seconds since then
        model            bundle_id, name, engine, provider, precision, threshold, swaps, swap_error
        watch            camera -> DriftMonitor.snapshot(), about once a second; empty without a watch
        shadow           null, or bundle_id, compared, disagreed, {ok_to_ng, ng_to_ok}, skipped, error
        cameras          name -> CameraCounts.snapshot()
        sinks            name -> written, lost, waiting, error
        alarms           a list of kind, text, camera, since
        pulse_age_s      seconds since the thread that runs the engine was last between two frames
        problems         why it doesn't inspect, a sentence each: not running, no pulse, a camera away or silent
        healthy          whether it inspects: there are none
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = datetime.now(timezone.utc)
        self._started_s = self._pulse_s = time.monotonic()
        self._cameras: dict[str, CameraCounts] = {}
        self._alarms: dict[tuple[str, str], Alarm] = {}
        self._parts: dict[str, Any] = {"state": "starting", "model": {}, "shadow": None, "watch": {}, "sinks": {}}

    def add_camera(self, name: str, live: bool) -> None:
        """Start counting for a camera; `live` where silence is a fault."""
        with self._lock:
            self._cameras[name] = CameraCounts(live)

    def add(self, result: FrameResult) -> None:
        """Count one result of a camera that was added."""
        with self._lock:
            self._cameras[result.record.camera].add(result)

    def connection(self, name: str, connected: bool, reconnects: int) -> None:
        """Say whether a camera gives frames."""
        with self._lock:
            camera = self._cameras[name]
            camera.connected, camera.reconnects = connected, reconnects

    def put(self, part: str, value: Any) -> None:
        """Replace `state`, `model`, `shadow`, `watch` or `sinks`."""
        assert part in self._parts, part
        with self._lock:
            self._parts[part] = value
            if part == "state":
                self._pulse_s = time.monotonic()

    def raise_alarm(self, alarm: Alarm) -> bool:
        """Keep an alarm until it is cleared; False where it stood already, whose time and text then stay."""
        with self._lock:
            if (alarm.camera, alarm.kind) in self._alarms:
                return False
            self._alarms[alarm.camera, alarm.kind] = alarm
            return True

    def clear_alarm(self, kind: str, camera: str = "") -> bool:
        """Drop an alarm; False where there was none."""
        with self._lock:
            return self._alarms.pop((camera, kind), None) is not None

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain JSON values, a copy."""
        with self._lock:
            cameras = {name: camera.snapshot() for name, camera in self._cameras.items()}
            alarms = [
                {"kind": a.kind, "text": a.text, "camera": a.camera, "since": a.since.isoformat(timespec="seconds")}
                for a in self._alarms.values()
            ]
            parts = dict(self._parts)
            pulse_age_s = time.monotonic() - self._pulse_s
        found = {
            "started": self._started.isoformat(timespec="seconds"),
            "uptime_s": time.monotonic() - self._started_s,
            "pulse_age_s": pulse_age_s,
            **parts,
            "cameras": cameras,
            "alarms": alarms,
        }
        reasons = problems(found)
        return {**found, "problems": reasons, "healthy": not reasons}


def problems(snapshot: dict[str, Any]) -> list[str]:
    """Why a line with that state, pulse and cameras doesn't inspect, one sentence each; empty where it does."""
    found = []
    if snapshot["state"] != "running":
        found.append(f"the line is {snapshot['state']}")
    elif snapshot["pulse_age_s"] >= STALE_S:
        found.append(f"the engine has not come back from a frame for {snapshot['pulse_age_s']:.0f} s")
    for name, camera in snapshot["cameras"].items():
        label, age_s = f"camera {name}" if name else "the camera", camera["last_result_age_s"]
        if not camera["connected"]:
            found.append(f"{label} is away")
        elif camera["live"] and age_s is not None and age_s >= STALE_S:
            found.append(f"{label} has given no result for {age_s:.0f} s")
    return found
