"""Which engine is chosen, and why."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle, write_bundle
from simplenet_edge.engines import choose_engine, engine_problem, open_engine, selection
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.onnxruntime import OnnxRuntimeEngine
from simplenet_edge.engines.openvino import OpenVinoEngine
from simplenet_edge.engines.selection import choose_tensorrt
from simplenet_edge.engines.tensorrt.engine import TensorRTEngine, TensorRTRtxEngine
from simplenet_edge.errors import BundleError, ConfigError, EngineUnavailable
from tests.bundles import tiny_files, tiny_manifest, tiny_record

NO_DRIVER = "no NVIDIA driver: libcuda.so.1 is not found"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "driver_problem", lambda: NO_DRIVER)


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine on which only these engines can run."""

    def install(names: str) -> None:
        monkeypatch.setattr(
            selection, "engine_problem", lambda name: None if name in names.split() else "not installed"
        )

    return install


@pytest.mark.parametrize(
    ("names", "precision", "chosen"),
    [
        ("tensorrt tensorrt_rtx onnxruntime-cuda openvino onnxruntime", "fp32", "tensorrt"),
        ("tensorrt_rtx onnxruntime-cuda openvino onnxruntime", "fp32", "tensorrt_rtx"),
        ("onnxruntime-cuda openvino onnxruntime", "int8", "onnxruntime-cuda"),
        ("openvino onnxruntime", "fp32", "onnxruntime"),
        ("openvino onnxruntime", "fp16", "openvino"),
        ("openvino onnxruntime", "int8", "openvino"),
        ("openvino", "fp32", "openvino"),
        ("onnxruntime", "int8", "onnxruntime"),
    ],
)
def test_auto_takes_the_best_that_is_present(
    present: Callable[[str], None], names: str, precision: str, chosen: str
) -> None:
    present(names)
    assert choose_engine("auto", precision).name == chosen


def test_auto_says_why_and_what_was_passed_over(no_gpu: None, bundle: Bundle) -> None:
    choice = choose_engine()
    assert choice.name == "onnxruntime"
    assert choice.reason.startswith("the best for fp32 that can run here (tensorrt: ")
    assert f"tensorrt_rtx: {NO_DRIVER}" in choice.reason or "tensorrt_rtx: not installed" in choice.reason
    assert f"onnxruntime-cuda: {NO_DRIVER}" in choice.reason
    assert isinstance(open_engine(bundle), OnnxRuntimeEngine)


def test_auto_follows_the_precision(no_gpu: None, tmp_path: Path) -> None:
    files = {**tiny_files(), "model.int8.onnx": b"not opened"}
    manifest = tiny_manifest(precisions={"fp32": tiny_record(), "int8": tiny_record(graph="model.int8.onnx")})
    bundle = write_bundle(tmp_path / "bundle", manifest, files)
    assert isinstance(open_engine(bundle, precision="int8"), OpenVinoEngine)


def test_a_gpu_engine_needs_more_than_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "is_installed", lambda flavour: True)
    monkeypatch.setattr(selection, "driver_problem", lambda: None)
    monkeypatch.setattr(selection, "has_adapter", lambda: True)
    assert engine_problem("tensorrt") is None
    monkeypatch.setattr(selection, "has_adapter", lambda: False)
    assert engine_problem("tensorrt") == "neither cuda-python nor pycuda is installed"
    monkeypatch.setattr(selection, "driver_problem", lambda: NO_DRIVER)
    assert engine_problem("tensorrt") == NO_DRIVER


def test_onnxruntime_for_the_cpu_is_no_cuda_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(selection, "driver_problem", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert engine_problem("onnxruntime-cuda") == "onnxruntime has no CUDAExecutionProvider"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert engine_problem("onnxruntime-cuda") is None


def test_nothing_installed_names_the_command(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailable, match=r"run: pip install 'simplenet-edge\[ort\]'"):
        choose_engine("auto")


def test_an_engine_asked_for_by_name_is_that_engine(bundle: Bundle) -> None:
    assert isinstance(open_engine(bundle, "fake"), FakeEngine)
    assert isinstance(open_engine(bundle, "tensorrt_rtx"), TensorRTRtxEngine)
    assert choose_engine("fake").reason == "asked for by name"


def test_build_has_its_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "is_installed", lambda flavour: flavour == "tensorrt_rtx")
    assert choose_tensorrt() is TensorRTRtxEngine
    assert choose_tensorrt("tensorrt") is TensorRTEngine
    monkeypatch.setattr(selection, "is_installed", lambda flavour: False)
    assert choose_tensorrt() is TensorRTEngine  # whose opening says how to install it
    with pytest.raises(ConfigError, match="the openvino engine has nothing to build; --engine is tensorrt or"):
        choose_tensorrt("openvino")


def test_options_that_cannot_work_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no engine is called 'tensorflow'; known are auto, tensorrt, "):
        open_engine(bundle, "tensorflow")
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        open_engine(bundle, "onnxruntime", threads=0)
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(ConfigError, match=f"at most {os.cpu_count()}, the logical CPUs of this machine, not 500"):
            open_engine(bundle, engine, threads=500)
    with pytest.raises(ConfigError, match="no threads to set"):
        open_engine(bundle, "fake", threads=2)
    with pytest.raises(BundleError, match="no int8 graph; it has fp32"):
        open_engine(bundle, "onnxruntime", precision="int8").__enter__()
