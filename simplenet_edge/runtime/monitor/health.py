"""Whether the line inspects, and if not, why; for systemd, Kubernetes and whoever is woken up."""

from __future__ import annotations

from typing import Any

from simplenet_edge.runtime.status import STALE_S

__all__ = ["problems"]


def problems(snapshot: dict[str, Any]) -> list[str]:
    """Why `LineStatus.snapshot()` isn't healthy, one sentence each; empty exactly where it is."""
    if snapshot["healthy"]:
        return []
    found = [] if snapshot["state"] == "running" else [f"the line is {snapshot['state']}"]
    if snapshot["state"] == "running" and snapshot["pulse_age_s"] >= STALE_S:
        found.append(f"the engine has not come back from a frame for {snapshot['pulse_age_s']:.0f} s")
    for name, camera in snapshot["cameras"].items():
        label, age_s = f"camera {name}" if name else "the camera", camera["last_result_age_s"]
        if not camera["connected"]:
            found.append(f"{label} is away")
        elif camera["live"] and age_s is not None and age_s >= STALE_S:
            found.append(f"{label} has given no result for {age_s:.0f} s")
    return found or ["the line says that it isn't healthy"]
