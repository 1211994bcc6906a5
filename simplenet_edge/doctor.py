"""What this machine has and lacks for inspecting parts. Reads and reports; changes nothing and never raises.

It is for installations that are broken, so nothing but the standard library is imported here. Each library is loaded in
a process of its own, which may fail, crash or hang.
"""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simplenet_edge.system import (
    OPENCV_WHEELS,
    cpu_count,
    cpu_model,
    installed_version,
    memory_bytes,
    nvidia_smi,
    video_io,
)

__all__ = ["Check", "diagnose", "judge_jetpack"]

_OLDEST_PYTHON = (3, 10)
_OLDEST_L4T = (36, 4)  # JetPack 6.1, the first with TensorRT 10
_TEGRA_RELEASE = Path("/etc/nv_tegra_release")
_PROBE = """
import importlib, json, sys
path, name, fact = json.loads(sys.argv[1])
sys.path[:] = path
sys.modules["openvino_telemetry"] = None  # it reports each import of openvino
try:
    module = importlib.import_module(name)
    found = {"version": getattr(module, "__version__", None), "fact": eval(fact) if fact else None}
except BaseException as error:
    text = " ".join(str(error).split())
    found = {"error": type(error).__name__, "text": text, "missing": getattr(error, "name", None)}
print("\\n" + json.dumps(found), flush=True)
"""


@dataclass(frozen=True)
class _Library:
    """`distributions` bring it; `extra` of simplenet-edge installs it, or None where nothing works without it."""

    name: str
    module: str
    distributions: tuple[str, ...]
    extra: str | None = None
    needs_numpy: bool = False
    fact: str | None = None  # what to ask the module, as an expression


_NUMPY = _Library("numpy", "numpy", ("numpy",))
_OPENCV = _Library("opencv", "cv2", OPENCV_WHEELS, None, True, "module.getBuildInformation()")
_REQUIRED = (
    _Library("simplejpeg", "simplejpeg", ("simplejpeg",), None, True),
    _Library("pillow", "PIL.TiffImagePlugin", ("pillow",)),
    _Library("typer", "typer", ("typer",)),
    _Library("rich", "rich", ("rich",)),
)
_ORT = _Library(
    "onnxruntime",
    "onnxruntime",
    ("onnxruntime", "onnxruntime-gpu"),
    "ort",
    True,
    "', '.join(module.get_available_providers())",
)
_OPTIONAL = (
    _Library("openvino", "openvino", ("openvino",), "openvino", True),
    _Library("tensorrt", "tensorrt", ("tensorrt",), "tensorrt"),
    _Library("tensorrt-rtx", "tensorrt_rtx", ("tensorrt-rtx", "tensorrt_rtx"), "rtx"),
    _Library("cuda-python", "cuda.bindings", ("cuda-bindings", "cuda-python"), "tensorrt"),
    _Library("pycuda", "pycuda", ("pycuda",), "pycuda", True),
    _Library("uvicorn", "uvicorn", ("uvicorn",), "serve"),
    _Library("starlette", "starlette.applications", ("starlette",), "serve"),
    _Library("prometheus-client", "prometheus_client", ("prometheus-client",), "serve"),
    _Library("paho-mqtt", "paho.mqtt.client", ("paho-mqtt",), "mqtt"),
    _Library("pymodbus", "pymodbus.client", ("pymodbus",), "modbus"),
    _Library("asyncua", "asyncua", ("asyncua",), "opcua"),
    _Library("python-snap7", "snap7.client", ("python-snap7",), "s7"),
    _Library("ray", "ray", ("ray",), "archive"),
    _Library("pyarrow", "pyarrow", ("pyarrow",), "archive"),
    _Library("torch", "torch", ("torch",), "train"),
    _Library("onnx", "onnx", ("onnx",), "export", True),
)


_Probe = Callable[[str, "str | None"], "dict[str, Any]"]  # of a module, and what to ask it


@dataclass(frozen=True)
class Check:
    """One line of the report. `ok`: True fine, False to be repaired, None for a fact or something optional.

    `advice` is what to do; empty where there is nothing to do.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def diagnose(patience_s: float = 60.0) -> list[Check]:
    """Every check, in a fixed order. A check that breaks is reported as not ok, with its error.

    A library that has not loaded after `patience_s` hangs.
    """
    probe = partial(_probe, patience_s=patience_s)
    numpy = _guarded("numpy", partial(_library, _NUMPY, None, probe))
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("cpu", lambda: Check("cpu", None, f"{cpu_model()}, {cpu_count()} usable processors")),
        ("memory", lambda: Check("memory", None, f"{memory_bytes() / 2**30:.1f} GiB")),
        ("numpy", lambda: numpy),
        *((one.name, partial(_library, one, numpy, probe)) for one in (_OPENCV, *_REQUIRED, _ORT, *_OPTIONAL)),
        ("nvidia", _nvidia),
        ("cuda", partial(_cuda, numpy, probe)),
        ("jetpack", _jetpack),
        ("engine", partial(_engine, numpy, probe)),
    ]
    with ThreadPoolExecutor(max(2, cpu_count())) as pool:
        return list(pool.map(_guarded, *zip(*checks, strict=True)))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a report that stops halfway helps nobody
        return Check(name, False, f"the check broke: {type(error).__name__}: {error}", "repair or reinstall it")


def _python() -> Check:
    ok = sys.version_info >= _OLDEST_PYTHON
    advice = "" if ok else f"use Python {'.'.join(map(str, _OLDEST_PYTHON))} or later"
    return Check("python", ok, f"{platform.python_version()} on {platform.platform()}", advice)


def _probe(module: str, fact: str | None, patience_s: float) -> dict[str, Any]:
    """Load a module in a process of its own: its `version` and `fact`, or the `error` and its `text`."""
    call = [sys.executable, "-I", "-c", _PROBE, json.dumps([sys.path, module, fact])]
    try:
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=patience_s
        )
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
        if isinstance(found, dict) and found.keys() & {"error", "version"}:
            return found
    except subprocess.TimeoutExpired:
        return {"error": "Hang", "text": f"not loaded after {patience_s:g} s"}
    except ValueError:  # it didn't come to the end
        pass
    code = done.returncode
    how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    return {"error": "Crash", "text": f"loading it ends the process ({how})"}


def _library(library: _Library, numpy: Check | None, probe: _Probe) -> Check:
    name, version = library.name, installed_version(*library.distributions)
    is_here = find_spec(library.module.partition(".")[0]) is not None
    found = probe(library.module, library.fact) if is_here else {"missing": library.module}
    if f"{library.module}.".startswith(f"{found.get('missing')}."):
        if library.extra is None:
            wanted = "opencv-python-headless" if library is _OPENCV else name
            return Check(name, False, "missing", f"pip install {wanted}")
        return Check(name, None, "not installed", f"if it is needed: pip install 'simplenet-edge[{library.extra}]'")
    if "error" in found:
        text = f"{version or 'it'} does not load: {found['error']}: {found['text']}"
        if library.needs_numpy and numpy is not None and not numpy.ok:
            return Check(name, False, text, f"mend numpy first: {numpy.advice}")
        return Check(name, False, text, _cure(library, found))
    version = found["version"] or version or "loads"
    if library is _OPENCV:
        return _judge_opencv(version, found["fact"])
    return Check(name, True, f"{version}, {found['fact']}" if found["fact"] else version)


def _cure(library: _Library, found: dict[str, Any]) -> str:
    """The command that mends a library that is there and doesn't load."""
    installed = next((one for one in library.distributions if installed_version(one)), library.distributions[0])
    if library is _NUMPY:  # the system's OpenCV was built for numpy 1
        return f"pip install --force-reinstall {'numpy' if installed_version(*OPENCV_WHEELS) else repr('numpy<2')}"
    if library is _OPENCV:
        numpy = installed_version("numpy") or ""
        if re.search(r"multiarray|_ARRAY_API|NumPy 1\.x", found["text"]) or (
            found["error"] == "Crash" and not numpy.startswith("1.")
        ):
            return "pip install 'numpy<2': this OpenCV was built for numpy 1"
        if not installed_version(*OPENCV_WHEELS):
            return "sudo apt install --reinstall python3-opencv"
        if "cannot open shared object file" in found["text"] and installed == "opencv-python":
            return (
                "pip uninstall -y opencv-python; pip install --force-reinstall --no-deps opencv-python-headless "
                "(or, for a machine with a display: sudo apt install libgl1 libglib2.0-0)"
            )
        return f"pip install --force-reinstall --no-deps {installed}"
    if library.name == "tensorrt" and _TEGRA_RELEASE.exists():
        return "sudo apt install --reinstall python3-libnvinfer"
    return f"pip install --force-reinstall {installed}"


def _judge_opencv(version: str, build_information: str) -> Check:
    built_with = video_io(build_information)
    detail = ", ".join([version, *(f"{name} {'yes' if has else 'no'}" for name, has in built_with.items())])
    if built_with["GStreamer"]:
        return Check("opencv", True, detail)
    advice = "CSI cameras need GStreamer: sudo apt install python3-opencv; pip uninstall opencv-python"
    return Check("opencv", True, detail, f"{advice} (in a venv with --system-site-packages and 'numpy<2')")


def _nvidia() -> Check:
    found = nvidia_smi("name,driver_version,memory.total")
    if found is None:
        return Check("nvidia", None, "no nvidia-smi: no NVIDIA driver")
    if found.returncode != 0:
        said = " ".join((found.stdout + found.stderr).split())
        return Check("nvidia", False, f"nvidia-smi failed: {said}", "reinstall the driver, or reboot after its update")
    return Check("nvidia", True, "; ".join(found.stdout.strip().splitlines()))


def _cuda(numpy: Check, probe: _Probe) -> Check:
    found = probe("simplenet_edge.engines.cuda_driver", "module.driver_problem()")
    if "error" in found:
        return _not_asked("cuda", found, numpy)
    return Check("cuda", None if found["fact"] else True, found["fact"] or "the driver finds a GPU")


def _engine(numpy: Check, probe: _Probe) -> Check:
    found = probe("simplenet_edge.engines.selection", "vars(module.choose_engine())")
    if found.get("error") == "EngineUnavailable":
        return Check("engine", False, "none", found["text"])
    if "error" in found:
        return _not_asked("engine", found, numpy)
    return Check("engine", True, "{name}: {reason}".format(**found["fact"]))


def _not_asked(name: str, found: dict[str, Any], numpy: Check) -> Check:
    advice = "mend what does not load above" if numpy.ok else f"mend numpy first: {numpy.advice}"
    return Check(name, False, f"can't be asked: {found['error']}: {found['text']}", advice)


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
