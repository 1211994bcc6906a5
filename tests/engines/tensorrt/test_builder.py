"""Graphs become plans with the real TensorRT for RTX, which compiles on machines without a GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from onnx import TensorProto

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig, build_plan, parse_target
from simplenet_edge.engines.tensorrt.library import TensorRTLibrary, load_library
from simplenet_edge.engines.tensorrt.plan_store import PlanStore, plan_folder
from simplenet_edge.engines.tensorrt.provision import build_for_targets
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable
from tests.bundles import tiny_files, tiny_graph, tiny_manifest, write_tiny_bundle

pytestmark = pytest.mark.slow

AMPERE = BuildConfig(BatchProfile(1, 2), capabilities=("8.6",))


@pytest.fixture(scope="module")
def library() -> TensorRTLibrary:
    pytest.importorskip("tensorrt_rtx")
    return load_library("tensorrt_rtx")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The MobileNetV2 that the magnetic tiles are inspected with, its weights random, folded and exported."""
    pytest.importorskip("torch")
    from simplenet_edge.bundle import write_bundle
    from simplenet_edge.export.cost import choose_forms
    from simplenet_edge.export.deployed_model import DeployedSimpleNet
    from simplenet_edge.export.to_onnx import to_onnx
    from simplenet_edge.spec import InputSpec, SimpleNetConfig
    from tests.models import random_model

    config = SimpleNetConfig(
        "mobilenet_v2",
        ("features.6", "features.10", "features.13"),
        192,
        192,
        discriminator_hidden=256,
        score_top_k=9,
        alignment="receptive-field",
        memory_size=500,
    )
    model = random_model(config)
    graph = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec).SerializeToString()
    manifest = tiny_manifest(input=InputSpec(*model.input_spec.size_hw))
    path = tmp_path_factory.mktemp("folded") / "mobilenet"
    return write_bundle(path, manifest, tiny_files(graph))


def test_a_folded_model_compiles_for_three_generations(library: TensorRTLibrary, folded: Bundle) -> None:
    config = BuildConfig(BatchProfile(1, 4), capabilities=("8.6", "8.9", "12.0"))
    steps: list[tuple[str, int, int]] = []
    stored = build_for_targets(folded, "fp32", config, progress=lambda *step: steps.append(step))
    weights = len(folded.graph())
    assert 0.8 * weights < len(stored.read()) < 1.6 * weights
    assert stored.key.gpus == ("8.6", "8.9", "12.0")
    assert stored.key.version == library.version
    assert json.loads(stored.sidecar.read_text())["build"]["fallbacks"] == []
    assert all(0 <= done <= total for _, done, total in steps)
    last = {phase: (done, total) for phase, done, total in steps}
    assert len(last) > 3
    assert all(done == total for done, total in last.values())
    found, _ = PlanStore(plan_folder(folded)).find(stored.key)
    assert found == stored


def test_a_capability_that_rtx_does_not_know(library: TensorRTLibrary, bundle: Bundle) -> None:
    config = BuildConfig(capabilities=("8.6", "8.7"))
    with pytest.raises(
        EngineError, match=r"compiles for compute capabilities .*8\.6, 8\.9.*, not for 8\.7; use TensorRT"
    ):
        build_plan(library, bundle, "fp32", config)


def test_a_build_that_fails_falls_back_loudly(
    library: TensorRTLibrary, folded: Bundle, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    config = BuildConfig(BatchProfile(1, 8), workspace_mib=1, capabilities=("8.6",))
    stored = build_for_targets(folded, "fp32", config, cache=tmp_path, progress=lambda *_: None)
    assert json.loads(stored.sidecar.read_text())["build"]["fallbacks"] == ["no workspace cap"]
    assert "the fp32 build failed (" in caplog.text
    assert "workspace limit" in caplog.text
    assert "trying again with no workspace cap" in caplog.text


def test_a_build_that_cannot_work_says_what_was_tried(
    library: TensorRTLibrary, folded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simplenet_edge.engines.tensorrt import builder

    monkeypatch.setattr(builder, "FALLBACKS", (("half of it", {"workspace_mib": 1}),))
    config = BuildConfig(BatchProfile(1, 8), workspace_mib=1, capabilities=("8.6",))
    with pytest.raises(EngineError, match=r"tried also with half of it \(.*workspace limit.*--precision fp16"):
        build_plan(library, folded, "fp32", config)


def test_ctrl_c_stops_the_build(library: TensorRTLibrary, folded: Bundle) -> None:
    def interrupt(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(library, folded, "fp32", AMPERE, progress=interrupt)


@pytest.mark.parametrize("graph", [b"", b"not a graph", tiny_graph()[:200]], ids=["empty", "text", "cut off"])
def test_bytes_that_are_no_graph(library: TensorRTLibrary, tmp_path: Path, graph: bytes) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graph)
    with pytest.raises(EngineError, match="can't read the fp32 graph") as caught:
        build_plan(library, bundle, "fp32", AMPERE)
    assert "\n" not in str(caught.value)


def test_a_node_that_tensorrt_does_not_know_is_named(library: TensorRTLibrary, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", tiny_graph(last_op="Det"))
    with pytest.raises(EngineError, match=r"can't read the fp32 graph .*unsupported node: node 5 \(Det\)"):
        build_plan(library, bundle, "fp32", AMPERE)


BROKEN_GRAPHS = {
    "a fixed batch": (tiny_graph(batch=1), r"score float32\(1\)"),
    "float frames": (tiny_graph(frames_type=TensorProto.FLOAT), r"found frames float32"),
    "another output": (tiny_graph(score_name="logit"), r"logit float32\(B\)"),
}


@pytest.mark.parametrize(("graph", "found"), BROKEN_GRAPHS.values(), ids=BROKEN_GRAPHS.keys())
def test_a_graph_that_breaks_the_contract(library: TensorRTLibrary, tmp_path: Path, graph: bytes, found: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graph)
    with pytest.raises(EngineError, match=rf"breaks the contract: expected .*{found}"):
        build_plan(library, bundle, "fp32", AMPERE)


def test_targets() -> None:
    assert parse_target("rtx:8.6") == ("8.6",)
    assert parse_target("rtx:8.6, 8.9,8.6,12.0") == ("8.6", "8.9", "12.0")


@pytest.mark.parametrize("text", ["", "rtx", "rtx:", "rtx:86", "rtx:8.6,", "rtx:8.6.1", "trt:8.6", "rtx:a.b", "rtx:8."])
def test_targets_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected --target rtx:CAPABILITY"):
        parse_target(text)


def test_dla_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"DLA is not supported.*leave --target out"):
        parse_target("dla:0")


def test_options_that_cannot_work_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="1 <= opt_batch <= max_batch, found 4 and 2"):
        BatchProfile(4, 2)
    with pytest.raises(ConfigError, match="workspace_mib must be at least 1"):
        BuildConfig(workspace_mib=0)
    with pytest.raises(ConfigError, match=r"--target rtx:8\.6,8\.9"):
        build_for_targets(bundle, "fp32", BuildConfig())


def test_rtx_missing_names_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'simplenet-edge\[rtx\]'"):
        build_for_targets(bundle, "fp32", AMPERE)
