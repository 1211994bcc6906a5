"""What only ONNX Runtime does."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import onnxruntime as ort
from simplenet_edge.engines.onnxruntime import CUDA_PROVIDER, OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable
from tests.bundles import HEIGHT, WIDTH, even_frames, predict, tiny_graph, with_spot, write_tiny_bundle


def test_onnxruntime_gives_what_the_library_gives(bundle: Bundle) -> None:
    frames = with_spot(even_frames(3))
    expected = predict(bundle.graph(), frames)
    with OnnxRuntimeEngine(bundle) as engine:
        found = engine.predict(frames)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.map, expected.map)


def test_onnxruntime_gives_the_golden_numbers_with_any_number_of_threads(bundle: Bundle) -> None:
    frames, golden = bundle.golden()
    for threads in (1, 2, None):
        engine = OnnxRuntimeEngine(bundle, threads=threads)
        with engine:
            assert engine._session.get_session_options().intra_op_num_threads == (threads or 0)
            np.testing.assert_allclose(engine.predict(frames).map, golden.map, rtol=1e-5, atol=1e-4)


BROKEN_GRAPHS = {
    "a fixed batch": (tiny_graph(batch=1), r"score float32\(1\)"),
    "another size": (tiny_graph(height=HEIGHT + 8), rf"frames uint8\(B, {HEIGHT + 8}, {WIDTH}, 3\)"),
    "float frames": (tiny_graph(frames_type=TensorProto.FLOAT), r"found frames float32"),
    "another output": (tiny_graph(score_name="logit"), r"logit float32\(B\)"),
}


@pytest.mark.parametrize(("graph", "found"), BROKEN_GRAPHS.values(), ids=BROKEN_GRAPHS.keys())
def test_onnxruntime_refuses_a_graph_that_breaks_the_contract(tmp_path: Path, graph: bytes, found: str) -> None:
    engine = OnnxRuntimeEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match=rf"breaks the contract: expected .*{found}.*export again"):
        engine.__enter__()
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


@pytest.mark.parametrize("graph", [b"", b"not a graph", tiny_graph()[:200]], ids=["empty", "text", "cut off"])
def test_onnxruntime_refuses_bytes_that_are_no_graph(tmp_path: Path, graph: bytes) -> None:
    engine = OnnxRuntimeEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match="can't load the fp32 graph") as caught:
        engine.__enter__()
    assert "\n" not in str(caught.value)


def test_onnxruntime_refuses_a_graph_whose_numbers_run_away(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", tiny_graph(last_op="Log"))
    with OnnxRuntimeEngine(bundle) as engine, pytest.raises(EngineError, match="not finite"):
        engine.predict(even_frames(1))


def test_onnxruntime_has_a_provider_only_while_it_is_open(bundle: Bundle) -> None:
    engine = OnnxRuntimeEngine(bundle)
    with pytest.raises(EngineError, match="not open"):
        _ = engine.provider
    with engine:
        assert engine.provider == "CPUExecutionProvider"
    with pytest.raises(EngineError, match="not open"):
        _ = engine.provider


def test_onnxruntime_missing_names_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"run: pip install 'simplenet-edge\[ort\]'"):
        OnnxRuntimeEngine(bundle).__enter__()


def test_threads_must_be_positive(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        OnnxRuntimeEngine(bundle, threads=0)


@pytest.mark.skipif(CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="this onnxruntime is for GPUs")
def test_cuda_is_refused_by_an_onnxruntime_for_the_cpu(bundle: Bundle) -> None:
    with pytest.raises(EngineUnavailable, match=r"has no CUDAExecutionProvider.*pip install 'simplenet-edge\[gpu\]'"):
        OnnxRuntimeCudaEngine(bundle).__enter__()


def test_cuda_is_refused_without_a_driver(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise EngineUnavailable("no NVIDIA driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "require_driver", no_driver)
    with pytest.raises(EngineUnavailable, match="no NVIDIA driver"):
        OnnxRuntimeCudaEngine(bundle).__enter__()


@pytest.mark.skipif(CUDA_PROVIDER in onnxruntime.get_available_providers(), reason="this onnxruntime is for GPUs")
def test_cuda_that_falls_back_to_the_cpu_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is asked for a provider that it can't start, and takes the CPU, as it does on a broken install."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "require_driver", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its only sign
        with pytest.raises(EngineError, match="asked ONNX Runtime for CUDAExecutionProvider, it uses CPUExec"):
            OnnxRuntimeCudaEngine(bundle).__enter__()
