from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge import doctor
from simplenet_edge import system as machine
from simplenet_edge.doctor import Check, diagnose, judge_jetpack
from simplenet_edge.system import video_io

pytestmark = pytest.mark.slow

LIBRARIES = ("numpy", "cv2", "simplejpeg", "PIL", "onnxruntime", "openvino", "torch", "torchvision", "onnx")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the libraries of the runtime: loading PyTorch each time takes seconds."""
    monkeypatch.setattr(doctor, "_OPTIONAL", doctor._OPTIONAL[:1])


def checks(patience_s: float = 60.0) -> dict[str, Check]:
    return {check.name: check for check in diagnose(patience_s)}


def write_module(folder: Path, name: str, code: str) -> None:
    """A module that stands before the one that is installed."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"import os, signal, time\n{code}\n")


def test_reports_what_is_here() -> None:
    found = checks()
    assert found["python"].ok is True
    assert found["numpy"].detail == np.__version__
    assert cv2.__version__ in found["opencv"].detail
    assert "CPUExecutionProvider" in found["onnxruntime"].detail
    assert "usable processors" in found["cpu"].detail
    assert float(found["memory"].detail.removesuffix(" GiB")) > 0.1
    assert "the best for fp32 that can run here" in found["engine"].detail
    assert all(check.advice for check in found.values() if check.ok is False)
    assert all(check.detail for check in found.values())


NUMPY_2 = "pip install 'numpy<2': this OpenCV was built for numpy 1"
BROKEN = {
    # OpenCV built for numpy 1 beside numpy 2: what it says depends on its version
    "built for numpy 1": ("cv2", "raise ImportError('numpy.core.multiarray failed to import')", "opencv", NUMPY_2),
    "no array interface": ("cv2", "raise AttributeError('_ARRAY_API not found')", "opencv", NUMPY_2),
    "numpy 1 by name": ("cv2", "raise ImportError('A module compiled using NumPy 1.x')", "opencv", NUMPY_2),
    "an exit": ("PIL", "os._exit(0)", "pillow", "pip install --force-reinstall pillow"),
    "a kill": ("simplejpeg", "os.kill(os.getpid(), signal.SIGSEGV)", "simplejpeg", "--force-reinstall simplejpeg"),
    "a hang": ("simplejpeg", "time.sleep(600)", "simplejpeg", "pip install --force-reinstall simplejpeg"),
    "a part that is gone": ("onnxruntime", "import onnxruntime.capi", "onnxruntime", "--force-reinstall onnxruntime"),
    "SystemExit": ("openvino", "raise SystemExit('no AVX')", "openvino", "pip install --force-reinstall openvino"),
    "output without an end": ("openvino", "print('{', end=''); 1 / 0", "openvino", "--force-reinstall openvino"),
    "an error of the system": (
        "numpy",
        "raise OSError('libopenblas.so')",
        "numpy",
        "--force-reinstall numpy",
    ),
}


@pytest.mark.parametrize(("module", "code", "name", "advice"), BROKEN.values(), ids=BROKEN.keys())
def test_a_library_that_does_not_load_gives_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, name: str, advice: str
) -> None:
    monkeypatch.setattr(doctor, "OPENCV_WHEELS", ("numpy",))  # OpenCV came as a wheel, whatever it is here
    write_module(tmp_path, module, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = checks(patience_s=20 if "sleep" in code else 60)
    assert found[name].ok is False
    assert "does not load" in found[name].detail
    assert advice in found[name].advice
    if name == "numpy":
        assert found["opencv"].advice == f"mend numpy first: {found['numpy'].advice}"
        assert found["engine"].advice == f"mend numpy first: {found['numpy'].advice}"
    elif module == "cv2":
        assert found["engine"].advice == "mend what does not load above"


def test_what_a_library_of_the_system_lacks_is_mended_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OPENCV_WHEELS", ())
    broken = "raise ImportError('libX.so.1: cannot open shared object file')"
    write_module(tmp_path / "opencv", "cv2", broken)
    monkeypatch.syspath_prepend(str(tmp_path / "opencv"))
    assert checks()["opencv"].advice == "sudo apt install --reinstall python3-opencv"
    write_module(tmp_path / "numpy", "numpy", broken)
    monkeypatch.syspath_prepend(str(tmp_path / "numpy"))
    assert checks()["numpy"].advice == "pip install --force-reinstall 'numpy<2'"


@pytest.mark.slow
@pytest.mark.parametrize("code", ["raise ImportError('broken')", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_the_command_works_where_nothing_loads(tmp_path: Path, code: str) -> None:
    for name in LIBRARIES:
        write_module(tmp_path, name, code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "COLUMNS": "40"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-c", "from simplenet_edge.cli import main; main()", *words]
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=False)

    done = run("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("numpy", "opencv", "simplejpeg", "pillow", "onnxruntime", "openvino", "torch", "onnx", "engine"):
        assert found[name]["ok"] is False
        assert "pip install" in found[name]["advice"] or name == "torch"
    lines = run("doctor").stdout.splitlines()  # commands are whole on one line, however narrow the terminal
    assert any(line.strip() == f"mend numpy first: {found['numpy']['advice']}" for line in lines)
    if "ImportError" in code:
        other = run("verify", str(tmp_path))
        assert other.returncode == 1
        assert other.stderr == "error: a library does not load (broken); run: simplenet-edge doctor\n"


def test_a_package_that_is_missing_gives_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = checks()
    assert found["numpy"] == Check("numpy", False, "missing", "pip install numpy")
    assert found["opencv"] == Check("opencv", False, "missing", "pip install opencv-python-headless")
    assert found["openvino"].ok is None
    assert found["openvino"].advice == "if it is needed: pip install 'simplenet-edge[openvino]'"


def test_a_check_that_breaks_does_not_break_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no such register")

    monkeypatch.setattr(doctor, "cpu_model", broken)
    found = checks()
    assert found["cpu"].ok is False
    assert "RuntimeError: no such register" in found["cpu"].detail
    assert found["python"].ok is True


def test_imports_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); from simplenet_edge.doctor import diagnose; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['simplenet_edge']"


def test_gstreamer_is_read_from_the_build_and_not_from_the_constant() -> None:
    text = "  Video I/O:\n    FFMPEG:  {}\n      avcodec:  YES (62)\n    GStreamer:   {}\n    v4l/v4l2:  YES (x)\n"
    assert video_io(text.format("YES", "NO")) == {"FFMPEG": True, "GStreamer": False, "v4l/v4l2": True}
    assert video_io(text.format("NO", "YES (1.20.3)")) == {"FFMPEG": False, "GStreamer": True, "v4l/v4l2": True}
    assert video_io("") == {"FFMPEG": False, "GStreamer": False, "v4l/v4l2": False}
    assert hasattr(cv2, "CAP_GSTREAMER")


@pytest.mark.parametrize(
    ("release", "ok", "detail"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", True, "L4T 36.4"),
        ("# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic", True, "L4T 38.2"),
        ("# R36 (release), REVISION: 3.0, GCID: 1", False, "L4T 36.3"),  # JetPack 6.0
        ("# R35 (release), REVISION: 4.1, GCID: 1", False, "L4T 35.4"),  # JetPack 5.1
        ("something else", False, "not understood: 'something else'"),
    ],
)
def test_jetpack(release: str, ok: bool, detail: str) -> None:
    check = judge_jetpack(release)
    assert (check.ok, check.detail) == (ok, detail)
    assert bool(check.advice) is not ok


def test_jetpack_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TEGRA_RELEASE", tmp_path / "nv_tegra_release")
    assert checks()["jetpack"] == Check("jetpack", None, "not a Jetson")
    (tmp_path / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    assert checks()["jetpack"].ok is True


SMI = {
    "a card": ("echo 'NVIDIA RTX A2000, 550.54, 12282 MiB'", True, "NVIDIA RTX A2000, 550.54, 12282 MiB"),
    "no driver": ("echo 'Failed to communicate' >&2; exit 9", False, "nvidia-smi failed: Failed to communicate"),
}


@pytest.mark.parametrize(("script", "ok", "detail"), SMI.values(), ids=SMI.keys())
def test_nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, ok: bool, detail: str) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    check = checks()["nvidia"]
    assert (check.ok, check.detail) == (ok, detail)


def test_no_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert checks()["nvidia"] == Check("nvidia", None, "no nvidia-smi: no NVIDIA driver")


def test_no_engine_is_a_problem_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "simplenet_edge", "")
    (tmp_path / "simplenet_edge" / "engines").mkdir()
    (tmp_path / "simplenet_edge" / "engines" / "__init__.py").touch()
    (tmp_path / "simplenet_edge" / "engines" / "cuda_driver.py").write_text("driver_problem = lambda: None")
    (tmp_path / "simplenet_edge" / "engines" / "selection.py").write_text(
        "class EngineUnavailable(Exception): pass\n"
        "def choose_engine(): raise EngineUnavailable('no engine is installed; run: pip install')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = checks()
    assert found["engine"] == Check("engine", False, "none", "no engine is installed; run: pip install")
    assert found["cuda"] == Check("cuda", True, "the driver finds a GPU")


def test_machine_facts() -> None:
    assert machine.installed_version("no-such-package", "numpy") == np.__version__
    assert machine.installed_version("no-such-package") is None
    assert machine.cpu_model()
    assert 1 <= machine.cpu_count() <= (os.cpu_count() or 1)
    assert machine.memory_bytes() > 2**26
