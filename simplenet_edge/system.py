"""Facts about this machine and what is installed on it, as plain values. Imports nothing but the standard library."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = [
    "OPENCV_WHEELS",
    "cpu_count",
    "cpu_model",
    "installed_version",
    "memory_bytes",
    "nvidia_smi",
    "physical_cores",
    "resident_bytes",
    "video_io",
]


OPENCV_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
"""The distributions that bring `cv2`."""


def cpu_model() -> str:
    """The processor's name as Linux tells it, e.g. "Intel(R) N100"; the architecture where it tells none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """How many logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int:
    """How many cores this process may use, of which each may be several logical processors."""
    if not hasattr(os, "sched_getaffinity"):
        return cpu_count()
    siblings = set()
    for processor in os.sched_getaffinity(0):
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(processor))
    return len(siblings)


def memory_bytes() -> int:
    """The physical memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int | None:
    """How much memory this process holds now, in bytes; None where Linux's /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def nvidia_smi(query: str) -> subprocess.CompletedProcess[str] | None:
    """What `nvidia-smi` says of each GPU, as CSV without a head; None where it is missing or hangs."""
    command = ("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def video_io(build_information: str) -> dict[str, bool]:
    """Which ways into a video this OpenCV was built with, from the text of `cv2.getBuildInformation()`.

    `cv2.CAP_GSTREAMER` exists in every build, so the constant tells nothing.
    """
    return {
        name: re.search(rf"^\s*{re.escape(name)}:\s+YES", build_information, re.MULTILINE) is not None
        for name in ("FFMPEG", "GStreamer", "v4l/v4l2")
    }


def installed_version(*distributions: str) -> str | None:
    """The version of the first of these distributions that is installed, without importing it; None if none is."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
