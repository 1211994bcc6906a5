"""What this machine has and lacks for inspecting parts. Reads and reports; changes nothing and never raises.

Heavy libraries are looked up by their metadata and not imported; only OpenCV and ONNX Runtime are loaded, for what
they were built with can't be known otherwise.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simplenet_edge.engines.cuda_driver import driver_problem
from simplenet_edge.engines.selection import choose_engine
from simplenet_edge.errors import EngineUnavailable
from simplenet_edge.system import cpu_count, cpu_model, installed_version, memory_bytes

__all__ = ["Check", "diagnose", "judge_jetpack", "video_io"]

_OLDEST_PYTHON = (3, 10)
_OLDEST_L4T = (36, 4)  # JetPack 6.1, the first with TensorRT 10
_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")

_REQUIRED = ("numpy", "typer", "rich")
"""What the lean runtime needs beside OpenCV, which has a check of its own."""

_OPTIONAL = {
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu"), "ort"),
    "openvino": (("openvino",), "openvino"),
    "tensorrt": (("tensorrt",), "tensorrt"),
    "tensorrt-rtx": (("tensorrt-rtx", "tensorrt_rtx"), "rtx"),
    "cuda-python": (("cuda-bindings", "cuda-python"), "tensorrt"),
    "pycuda": (("pycuda",), "pycuda"),
    "uvicorn": (("uvicorn",), "serve"),
    "paho-mqtt": (("paho-mqtt",), "mqtt"),
    "pymodbus": (("pymodbus",), "modbus"),
    "torch": (("torch",), "train"),
    "onnx": (("onnx",), "export"),
}
"""What a task may need: the distributions that bring it, and the extra of simplenet-edge that installs it."""


@dataclass(frozen=True)
class Check:
    """One line of the report. `ok`: True fine, False to be repaired, None for a fact or something optional.

    `advice` is what to do; empty where there is nothing to do.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def diagnose() -> list[Check]:
    """Every check, in a fixed order. A check that breaks is reported as not ok, with its error."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("cpu", lambda: Check("cpu", None, f"{cpu_model()}, {cpu_count()} usable processors")),
        ("memory", lambda: Check("memory", None, f"{memory_bytes() / 2**30:.1f} GiB")),
        *((name, partial(_required, name)) for name in _REQUIRED),
        ("opencv", _opencv),
        *((name, partial(_optional, name, *entry)) for name, entry in _OPTIONAL.items()),
        ("onnxruntime providers", _providers),
        ("nvidia", _nvidia),
        ("cuda", _cuda),
        ("jetpack", _jetpack),
        ("engine", _engine),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a report that stops halfway helps nobody
        return Check(name, False, f"the check broke: {type(error).__name__}: {error}", "repair or reinstall it")


def _python() -> Check:
    ok = sys.version_info >= _OLDEST_PYTHON
    advice = "" if ok else f"use Python {'.'.join(map(str, _OLDEST_PYTHON))} or later"
    return Check("python", ok, f"{platform.python_version()} on {platform.platform()}", advice)


def _required(name: str) -> Check:
    version = installed_version(name)
    return Check(name, version is not None, version or "missing", "" if version else "pip install simplenet-edge")


def _optional(name: str, distributions: tuple[str, ...], extra: str) -> Check:
    version = installed_version(*distributions)
    advice = "" if version else f"if it is needed: pip install 'simplenet-edge[{extra}]'"
    return Check(name, True if version else None, version or "not installed", advice)


def _opencv() -> Check:
    try:
        import cv2
    except ImportError as error:
        return Check("opencv", False, f"does not load: {error}", "pip install --force-reinstall opencv-python-headless")
    built_with = video_io(cv2.getBuildInformation())
    detail = ", ".join([cv2.__version__, *(f"{name} {'yes' if has else 'no'}" for name, has in built_with.items())])
    if built_with["GStreamer"]:
        return Check("opencv", True, detail)
    return Check(
        "opencv",
        True,
        detail,
        "CSI cameras need GStreamer: on a Jetson `apt install python3-opencv`, in a venv with --system-site-packages",
    )


def video_io(build_information: str) -> dict[str, bool]:
    """Which ways into a video this OpenCV was built with, from the text of `cv2.getBuildInformation()`.

    `cv2.CAP_GSTREAMER` exists in every build, so the constant tells nothing.
    """
    return {
        name: re.search(rf"^\s*{re.escape(name)}:\s+YES", build_information, re.MULTILINE) is not None
        for name in ("FFMPEG", "GStreamer", "v4l/v4l2")
    }


def _providers() -> Check:
    name = "onnxruntime providers"
    try:
        import onnxruntime
    except ImportError as error:
        return Check(name, None, f"onnxruntime does not load: {error}")
    return Check(name, True, ", ".join(onnxruntime.get_available_providers()))


def _nvidia() -> Check:
    if shutil.which(_SMI[0]) is None:
        return Check("nvidia", None, "no nvidia-smi: no NVIDIA driver")
    done = subprocess.run(_SMI, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())
        return Check("nvidia", False, f"nvidia-smi failed: {said}", "reinstall the driver, or reboot after its update")
    return Check("nvidia", True, "; ".join(done.stdout.strip().splitlines()))


def _cuda() -> Check:
    problem = driver_problem()
    return Check("cuda", None if problem else True, problem or "the driver finds a GPU")


def _engine() -> Check:
    try:
        choice = choose_engine()
    except EngineUnavailable as error:
        return Check("engine", False, "none", str(error))
    return Check("engine", True, f"{choice.name}: {choice.reason}")


def _jetpack() -> Check:
    if not _TEGRA_RELEASE.exists():
        return Check("jetpack", None, "not a Jetson")
    return judge_jetpack(_TEGRA_RELEASE.read_text(errors="replace"))


def judge_jetpack(release: str) -> Check:
    """The check of the text of `/etc/nv_tegra_release`, e.g. `# R36 (release), REVISION: 4.3, ...`."""
    found = re.search(r"R(\d+)\D.*?REVISION:\s*(\d+)", release)
    if found is None:
        return Check("jetpack", False, f"not understood: {release.strip()[:80]!r}", "report this line")
    version = (int(found[1]), int(found[2]))
    ok = version >= _OLDEST_L4T
    return Check("jetpack", ok, "L4T {}.{}".format(*version), "" if ok else "upgrade to JetPack 6.2 or later")
