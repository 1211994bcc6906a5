"""What only OpenVINO does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.openvino import Hint, OpenVinoEngine
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable
from tests.bundles import HEIGHT, WIDTH, even_frames, predict, tiny_graph, with_spot, write_tiny_bundle

pytestmark = pytest.mark.slow

pytest.importorskip("openvino")


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("batch", [1, 5])
def test_gives_what_onnxruntime_gives(bundle: Bundle, hint: Hint, batch: int) -> None:
    frames = np.concatenate([even_frames(batch - 1), with_spot(even_frames(1))])
    expected = predict(bundle.graph(), frames)
    with OpenVinoEngine(bundle, threads=2, hint=hint) as engine:
        found = engine.predict(frames)
    np.testing.assert_allclose(found.map, expected.map, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_options_reach_openvino(bundle: Bundle) -> None:
    with OpenVinoEngine(bundle, threads=1) as engine:
        request = next(iter(engine._queue))
        model = request.get_compiled_model()
        assert model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert model.get_property("INFERENCE_NUM_THREADS") == 1
        assert len(engine._queue) == 1  # latency: one frame at a time
        assert engine.provider == "CPU"


def test_options_that_cannot_work_are_refused(bundle: Bundle) -> None:
    hint: Any = "speed"
    with pytest.raises(ConfigError, match="hint must be one of latency, throughput, not 'speed'"):
        OpenVinoEngine(bundle, hint=hint)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        OpenVinoEngine(bundle, threads=0)


BROKEN_GRAPHS = {
    "a fixed batch": (tiny_graph(batch=1), r"score float32\(1\)"),
    "another size": (tiny_graph(height=HEIGHT + 8), rf"frames uint8\(B, {HEIGHT + 8}, {WIDTH}, 3\)"),
    "float frames": (tiny_graph(frames_type=TensorProto.FLOAT), r"found frames float32"),
    "another output": (tiny_graph(score_name="logit"), r"logit float32\(B\)"),
}


@pytest.mark.parametrize(("graph", "found"), BROKEN_GRAPHS.values(), ids=BROKEN_GRAPHS.keys())
def test_refuses_a_graph_that_breaks_the_contract(tmp_path: Path, graph: bytes, found: str) -> None:
    engine = OpenVinoEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match=rf"breaks the contract: expected .*{found}.*export again"):
        engine.__enter__()
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


@pytest.mark.parametrize("graph", [b"", b"not a graph", tiny_graph()[:200]], ids=["empty", "text", "cut off"])
def test_refuses_bytes_that_are_no_graph(tmp_path: Path, graph: bytes) -> None:
    engine = OpenVinoEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match="can't load the fp32 graph") as caught:
        engine.__enter__()
    assert "\n" not in str(caught.value)


def test_missing_names_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match=r"run: pip install 'simplenet-edge\[openvino\]'"):
        OpenVinoEngine(bundle).__enter__()


def test_has_a_provider_only_while_it_is_open(bundle: Bundle) -> None:
    engine = OpenVinoEngine(bundle)
    with pytest.raises(EngineError, match="not open"):
        _ = engine.provider


def test_neither_telemetry_nor_pytorch_is_loaded(bundle: Bundle) -> None:
    code = (
        "import sys; from pathlib import Path; from simplenet_edge.bundle import Bundle; "
        "from simplenet_edge.engines.openvino import OpenVinoEngine; "
        f"OpenVinoEngine(Bundle(Path({str(bundle.path)!r}))).__enter__(); "
        "print([m for m in ('openvino_telemetry', 'torch', 'onnx') if m in sys.modules], 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[] True", done.stderr
