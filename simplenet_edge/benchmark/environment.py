"""What a benchmark ran on, and what else the machine did meanwhile. Reads only; no setting is ever changed."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2

from simplenet_edge import __version__
from simplenet_edge.system import cpu_count, cpu_model, installed_version, memory_bytes, nvidia_smi

__all__ = ["Activity", "EnergyMeter", "environment", "peak_rss_mib"]

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_POWERCAP = Path("/sys/class/powercap")
_LIBRARIES = {
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx",),
}


def environment() -> dict[str, Any]:
    """The machine and its libraries as plain JSON values; null where the system doesn't tell."""
    versions = {name: installed_version(*distributions) for name, distributions in _LIBRARIES.items()}
    gpu = nvidia_smi("name,driver_version,clocks.sm,power.limit")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpu_count": cpu_count(),
        "governor": _text(_CPU / "scaling_governor"),
        "frequency_mhz": _megahertz(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "os": f"{_os_name()}, {platform.machine()}",
        "load_average": list(os.getloadavg()),
        "jetpack": _text(Path("/etc/nv_tegra_release")),
        "power_mode": _output("nvpmodel", "-q"),
        "gpu": gpu.stdout.strip() or None if gpu else None,
        "temperature_c": _hottest(),
        "versions": {
            "simplenet-edge": __version__,
            "python": platform.python_version(),
            "opencv": cv2.__version__,
            **{name: version for name, version in versions.items() if version is not None},
        },
    }


def peak_rss_mib() -> float:
    """The most memory that this process has had since it started, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


class Activity:
    """What the processors did from its making on: `shares` of all of their time."""

    def __init__(self) -> None:
        self._started = _processor_times(), time.process_time()

    def shares(self) -> dict[str, float] | None:
        """`own`: this process; `others`: all other programs; `stolen`: taken by the host of a virtual machine."""
        (before, own_before), (now, own_now) = self._started, (_processor_times(), time.process_time())
        if before is None or now is None or (total := sum(now) - sum(before)) <= 0:
            return None
        user, nice, system, _, _, irq, softirq, stolen = (b - a for a, b in zip(before, now, strict=True))
        own = (own_now - own_before) / total
        busy = (user + nice + system + irq + softirq) / total
        return {"own": own, "others": max(0.0, busy - own), "stolen": stolen / total}


class EnergyMeter:
    """The energy that the processor packages have used, through RAPL; what else runs counts too."""

    def __init__(self, root: Path = _POWERCAP) -> None:
        zones = (zone for zone in sorted(root.glob("*-rapl:*")) if zone.name.count(":") == 1)
        # `psys`, the whole machine, has the packages in it
        self._zones = [zone for zone in zones if (_text(zone / "name") or "").startswith("package")]
        self._last = self._read()
        self._joules = 0.0

    def joules(self) -> float | None:
        """Joules since it was made; None where there is no meter or the system doesn't let this user read it."""
        now = self._read()
        if now is None or self._last is None:
            return None
        for (before, _), (after, top) in zip(self._last, now, strict=True):
            self._joules += (after - before + (top if after < before else 0)) / 1e6  # the counter starts over
        self._last = now
        return self._joules

    def _read(self) -> list[tuple[int, int]] | None:
        try:
            return [
                (int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text()))
                for zone in self._zones
            ] or None
        except (OSError, ValueError):
            return None


def _processor_times() -> list[float] | None:
    """Seconds of user, nice, system, idle, iowait, irq, softirq, steal over all processors."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    return [int(field) / os.sysconf("SC_CLK_TCK") for field in fields] if len(fields) == 8 else None


def _megahertz() -> float | None:
    if text := _text(_CPU / "scaling_cur_freq"):
        return int(text) / 1000
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("cpu MHz"):
            return float(line.partition(":")[2])
    return None


def _hottest() -> float | None:
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(zone.read_text()) / 1000)
    return max(found, default=None)


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
