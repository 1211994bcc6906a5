"""The build command: for other GPUs with the real TensorRT for RTX, for this device with a simulated GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import selection
from simplenet_edge.engines.cuda_driver import driver_problem
from tests.bundles import tiny_graph, write_tiny_bundle
from tests.cli.conftest import Run
from tests.engines.tensorrt.simulated_gpu import install_simulation

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install_simulation(monkeypatch)


@pytest.fixture
def part(bundle: Bundle, tmp_path: Path) -> Path:
    """An image with a spot."""
    frames, _ = bundle.golden()
    path = tmp_path / "part.png"
    assert cv2.imwrite(str(path), frames[-1])
    return path


def test_builds_for_gpus_that_are_elsewhere(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    code, out, err = run("build", bundle.path, "--target", "rtx:8.6,8.9", "--max-batch", 2, "--json")
    assert code == 0, err
    result = json.loads(out)
    plan = Path(result["plan"])
    assert plan.parent == bundle.path / "engines"
    assert plan.stat().st_size == result["bytes"]
    assert (result["key"]["gpus"], result["key"]["max_batch"]) == (["8.6", "8.9"], 2)
    assert result["replayed"] is None
    code, shown, err = run("inspect", bundle.path, "--json")
    assert code == 0, err
    (listed,) = json.loads(shown)["plans"]
    assert (listed["path"], listed["precision"], listed["gpus"]) == (str(plan), "fp32", ["8.6", "8.9"])
    code, out, err = run("build", bundle.path, "--target", "rtx:8.6", "--cache", tmp_path / "cache")
    assert code == 0, err
    assert "at the first run" in out
    assert list((tmp_path / "cache" / bundle.id).glob("*.plan"))


def test_builds_for_this_device_and_replays_the_golden_frames(
    run: Run, bundle: Bundle, gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    code, out, err = run("build", bundle.path, "--engine", "tensorrt", "--json")
    assert code == 0, err
    assert json.loads(out)["replayed"]["passed"] is True
    assert "building the fp32 engine for 8.7 Orin" in caplog.text
    caplog.clear()
    code, out, err = run("build", bundle.path, "--engine", "tensorrt")
    assert code == 0, err
    assert "4 replayed: passed" in out
    assert "building" not in caplog.text


def test_the_first_run_builds_replays_and_inspects(
    run: Run, bundle: Bundle, gpu: None, part: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, out, err = run("run", bundle.path, part, "--engine", "tensorrt")
    assert code == 0, err
    assert json.loads(out)["verdict"] == "NG"
    assert "building the fp32 engine" in caplog.text
    assert "engine tensorrt: asked for by name" in err


def test_an_engine_that_drifts_is_refused_and_its_plan_removed(run: Run, tmp_path: Path, gpu: None, part: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "drifted", drifted_graph())
    code, out, err = run("build", bundle.path, "--engine", "tensorrt")
    assert (code, out) == (7, "")
    assert "does not give the bundle's numbers" in err
    assert not list((bundle.path / "engines").glob("*.plan"))
    code, out, err = run("run", bundle.path, part, "--engine", "tensorrt")
    assert (code, out) == (7, "")


def drifted_graph() -> bytes:
    """The tiny graph with another kernel, which the golden numbers of its bundle are not from."""
    model = onnx.load_from_string(tiny_graph())
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), "weight"))
    return bytes(model.SerializeToString())


BAD_INPUT: dict[str, tuple[tuple[object, ...], int, str]] = {
    "DLA": (("--target", "dla:0"), 2, "DLA is not supported"),
    "no capability": (("--target", "rtx"), 2, "expected --target rtx:CAPABILITY"),
    "a Jetson as RTX": (("--target", "rtx:8.7"), 6, "not for 8.7"),
    "an engine without a build": (("--engine", "openvino"), 2, "nothing to build"),
    "a best batch above the largest": (("--opt-batch", 4, "--max-batch", 2), 2, "opt_batch <= max_batch"),
    "no best batch": (("--opt-batch", 0), 2, "found 0 and 4"),
    "a target for TensorRT itself": (("--target", "rtx:8.6", "--engine", "tensorrt"), 2, "builds for tensorrt_rtx"),
    "no workspace": (("--workspace", 0), 2, "workspace_mib must be at least 1"),
    "no such graph": (("--target", "rtx:8.6", "--precision", "int8"), 5, "no int8 graph"),
}


@pytest.mark.parametrize(("options", "exit_code", "text"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_gives_one_clear_line(
    run: Run, bundle: Bundle, options: tuple[object, ...], exit_code: int, text: str
) -> None:
    if exit_code == 6:
        pytest.importorskip("tensorrt_rtx")
    code, out, err = run("build", bundle.path, *options)
    assert (code, out) == (exit_code, "")
    assert text in err
    assert len(err.strip().splitlines()) == 1
    assert not (bundle.path / "engines").exists()


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a usable NVIDIA GPU")
@pytest.mark.parametrize("installed", [True, False])
def test_without_a_gpu_it_says_what_to_do(
    run: Run, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    if installed:
        pytest.importorskip("tensorrt_rtx")
    else:
        monkeypatch.setattr(selection, "is_installed", lambda flavour: False)
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, _, err = run("build", bundle.path)
    assert code == 6
    assert "NVIDIA driver" in err if installed else "python3-libnvinfer" in err


def test_inspect_lists_plans_with_their_device_and_what_is_damaged(run: Run, bundle: Bundle, gpu: None) -> None:
    code, _, err = run("build", bundle.path, "--engine", "tensorrt")
    assert code == 0, err
    (bundle.path / "engines" / "torn.plan").write_bytes(b"half")
    listed = json.loads(run("inspect", bundle.path, "--json")[1])
    (plan,) = listed["plans"]
    assert (plan["precision"], plan["flavour"]) == ("fp32", "tensorrt")
    assert plan["gpus"]
    (problem,) = listed["damaged_plans"]
    assert "torn.plan has no sidecar" in problem
    code, out, err = run("inspect", bundle.path)
    assert code == 0, err
    assert "plan for fp32" in out
    assert "damaged plan" in out
