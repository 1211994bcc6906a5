from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.to_onnx import OPSET, to_onnx
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import SimpleNetConfig
from tests.model.test_golden import CASES, golden_model
from tests.models import random_model

pytestmark = pytest.mark.slow


def graph_of(model: SimpleNet) -> onnx.ModelProto:
    return to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model() -> SimpleNet:
    layers = ("features.6", "features.13")
    return random_model(
        SimpleNetConfig("mobilenet_v2", layers, 100, 90, discriminator_hidden=32, score_top_k=9), (96, 64)
    )


@pytest.fixture(scope="module")
def graph(model: SimpleNet) -> onnx.ModelProto:
    return graph_of(model)


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_gives_the_numbers_of_pytorch(
    model: SimpleNet, graph: onnx.ModelProto, rng: np.random.Generator, batch: int
) -> None:
    frames = rng.integers(0, 256, (batch, 96, 64, 3), dtype=np.uint8)
    expected = model.predict(frames)
    score, maps = session_of(graph).run(["score", "map"], {"frames": frames})
    assert np.abs(score - expected.score).max() < 1e-5 * np.ptp(expected.map)
    assert np.abs(maps - expected.map).max() < 1e-5 * np.ptp(expected.map)


def test_the_graph_is_plain(graph: onnx.ModelProto) -> None:
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"BatchNormalization", "If", "Loop", "Shape", "Constant"}
    constants = {tensor.name for tensor in graph.graph.initializer}
    assert all(node.input[1] in constants for node in graph.graph.node if node.op_type in ("Reshape", "TopK"))
    values = [(t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes()) for t in graph.graph.initializer]
    assert len(set(values)) == len(values)  # nothing is stored twice


def test_the_graph_tells_nothing_of_the_machine(graph: onnx.ModelProto) -> None:
    text = graph.SerializeToString()
    for word in (str(Path.home()), str(Path(__file__).parents[2]), "stack_trace", "torch"):
        assert word.encode() not in text


def test_exports_are_equal_to_the_bit(model: SimpleNet, graph: onnx.ModelProto) -> None:
    assert graph_of(model).SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_implementation_from_the_uint8_frames(shared: Path, case: str) -> None:
    model, reference = golden_model(shared, case)
    score, maps = session_of(graph_of(model)).run(["score", "map"], {"frames": reference["frames_bgr_uint8"]})
    for found, expected in ((score, reference["image_scores"]), (maps, reference["anomaly_maps"])):
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet18", ("layer2", "layer3")),
        ("efficientnet_b0", ("features.3", "features.4")),
        ("convnext_tiny", ("features.3",)),
    ],
)
def test_other_backbones_export(backbone: str, layers: tuple[str, ...], rng: np.random.Generator) -> None:
    model = random_model(SimpleNetConfig(backbone, layers, 64, 64, discriminator_hidden=16))
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected = model.predict(frames)
    score, maps = session_of(graph_of(model)).run(["score", "map"], {"frames": frames})
    assert np.abs(score - expected.score).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(maps - expected.map).max() < 1e-4 * np.ptp(expected.map)
