"""Whether the line inspects, and if not, why; for systemd, Kubernetes and whoever is woken up."""

from __future__ import annotations

from typing import Any

__all__ = ["SILENT_S", "problems"]

SILENT_S = 10.0
"""A live camera without a result for so long is a fault, as `LineStatus` counts it."""


def problems(snapshot: dict[str, Any]) -> list[str]:
    """Why `LineStatus.snapshot()` isn't healthy, one sentence each; empty exactly where it is."""
    if snapshot["healthy"]:
        return []
    found = [] if snapshot["state"] == "running" else [f"the line is {snapshot['state']}"]
    for name, camera in snapshot["cameras"].items():
        label, age_s = f"camera {name}" if name else "the camera", camera["last_result_age_s"]
        if camera["live"] and not camera["connected"]:
            found.append(f"{label} is away")
        elif camera["live"] and age_s is not None and age_s >= SILENT_S:
            found.append(f"{label} has given no result for {age_s:.0f} s")
    return found or ["the line says that it isn't healthy"]
