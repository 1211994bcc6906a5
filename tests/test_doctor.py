from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge import doctor
from simplenet_edge import system as machine
from simplenet_edge.doctor import Check, diagnose, judge_jetpack, video_io
from simplenet_edge.errors import EngineUnavailable


def checks() -> dict[str, Check]:
    return {check.name: check for check in diagnose()}


def test_reports_what_is_here() -> None:
    found = checks()
    assert found["python"].ok is True
    assert found["numpy"].detail == np.__version__
    assert cv2.__version__ in found["opencv"].detail
    assert "CPUExecutionProvider" in found["onnxruntime providers"].detail
    assert "usable processors" in found["cpu"].detail
    assert float(found["memory"].detail.removesuffix(" GiB")) > 0.1


def test_every_check_that_is_not_ok_says_what_to_do() -> None:
    assert all(check.advice for check in diagnose() if check.ok is False)
    assert all(check.detail for check in diagnose())


def test_a_package_that_is_missing_gives_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", lambda *names: None)
    found = checks()
    assert found["numpy"] == Check("numpy", False, "missing", "pip install simplenet-edge")
    assert found["openvino"].ok is None
    assert found["openvino"].advice == "if it is needed: pip install 'simplenet-edge[openvino]'"


def test_libraries_that_do_not_load_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = checks()
    assert found["opencv"].ok is False
    assert "does not load" in found["opencv"].detail
    assert found["onnxruntime providers"].ok is None


def test_a_check_that_breaks_does_not_break_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no such register")

    monkeypatch.setattr(doctor, "cpu_model", broken)
    found = checks()
    assert found["cpu"].ok is False
    assert "RuntimeError: no such register" in found["cpu"].detail
    assert found["python"].ok is True


def test_does_not_import_torch() -> None:
    code = (
        "import sys; from simplenet_edge.doctor import diagnose; diagnose(); "
        "print([m for m in ('torch', 'torchvision', 'onnx', 'openvino', 'tensorrt') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "driver_problem", lambda: "no NVIDIA driver")
    assert checks()["cuda"] == Check("cuda", None, "no NVIDIA driver")
    monkeypatch.setattr(doctor, "driver_problem", lambda: None)
    assert checks()["cuda"].ok is True


def test_the_engine_that_auto_takes_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the best for fp32 that can run here" in checks()["engine"].detail

    def none() -> None:
        raise EngineUnavailable("no engine is installed; run: pip install")

    monkeypatch.setattr(doctor, "choose_engine", none)
    assert checks()["engine"] == Check("engine", False, "none", "no engine is installed; run: pip install")


def test_machine_facts() -> None:
    assert machine.installed_version("no-such-package", "numpy") == np.__version__
    assert machine.installed_version("no-such-package") is None
    assert machine.cpu_model()
    assert 1 <= machine.cpu_count() <= (os.cpu_count() or 1)
    assert machine.memory_bytes() > 2**26
