from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.export.precision.fp16 import activation_ranges, rounded_twin, to_fp16
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.tensorrt_lint import lint
from simplenet_edge.spec import Frames
from tests.export.conftest import difference

pytestmark = pytest.mark.slow


def test_the_graph_computes_the_same_to_float16_rounding(small_graph: onnx.ModelProto, frames: Frames) -> None:
    half = to_fp16(small_graph, activation_ranges(small_graph, frames))
    assert half.kept_float == {}
    found = difference(half.graph, small_graph, frames)
    assert 1e-5 < found < 1e-2  # not float32, and not more than a few roundings
    assert lint(half.graph) == []


def test_types_are_explicit(small_graph: onnx.ModelProto) -> None:
    half = to_fp16(small_graph, {}).graph
    casts = [
        (node.input[0], helper.get_node_attr_value(node, "to")) for node in half.graph.node if node.op_type == "Cast"
    ]
    single, half_kind = TensorProto.FLOAT, TensorProto.FLOAT16
    # the resizes are float32 too, and so are the distances of the memory
    assert [kind for _, kind in casts] == [single, half_kind, single, half_kind, single, single, single]
    weights = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    kept = {node.input[1] for node in convolutions if weights[node.input[1]] == TensorProto.FLOAT}
    assert {name.rsplit(".", 2)[0] for name in kept} == {"head.tail", "head.coordinates.shares"}  # score and distances
    for name in ("pixel_scale", "pixel_shift", "anomaly_map.rows", "anomaly_map.columns"):
        assert weights[name] == TensorProto.FLOAT
    signature = [(value.name, value.type) for value in (*small_graph.graph.input, *small_graph.graph.output)]
    assert [(value.name, value.type) for value in (*half.graph.input, *half.graph.output)] == signature


def test_the_source_graph_is_left_alone(small_graph: onnx.ModelProto) -> None:
    before = small_graph.SerializeToString(deterministic=True)
    rounded_twin(to_fp16(small_graph, {}).graph)
    assert small_graph.SerializeToString(deterministic=True) == before


def test_ranges_are_the_largest_magnitudes(small_graph: onnx.ModelProto, frames: Frames) -> None:
    ranges = activation_ranges(small_graph, frames)
    prediction = GraphPredictor(small_graph).predict(frames)
    assert ranges["map"] == pytest.approx(float(np.abs(prediction.map).max()), rel=1e-5)
    assert ranges["score"] == pytest.approx(float(np.abs(prediction.score).max()), rel=1e-5)
    assert activation_ranges(small_graph, frames[:1])["map"] <= ranges["map"]


def chain(*scales: float) -> onnx.ModelProto:
    """1x1 convolutions, each a multiplication, from `x` to `y`."""
    names = ["x", *(f"t{i}" for i in range(1, len(scales))), "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], name=f"conv{i}", kernel_shape=[1, 1])
        for i in range(len(scales))
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])],
        [numpy_helper.from_array(np.full((1, 1, 1, 1), scale, np.float32), f"w{i}") for i, scale in enumerate(scales)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("scales", "ranges", "kept"),
    [
        ((1, 1, 1, 1), {}, {}),
        ((1, 1e6, 1, 1), {}, {"conv1": "w1 reaches 1e+06"}),  # a weight that float16 can't hold
        ((1, 1e-6, 1, 1), {}, {"conv1": "w1 reaches 1e-06"}),  # and one that loses its digits there
        # an activation: who writes it and who reads it
        ((1, 1, 1, 1), {"t2": 1e5}, {"conv1": "t2 reaches 1e+05", "conv2": "t2 reaches 1e+05"}),
        (
            (1, 1, 1, 1),
            {"t2": 3e4},
            {"conv1": "t2 reaches 3e+04", "conv2": "t2 reaches 3e+04"},
        ),  # a defect goes further
        ((1, 1, 1, 1), {"t2": 1e4}, {}),
    ],
)
def test_what_does_not_fit_stays_float32_and_is_named(
    scales: tuple[float, ...], ranges: dict[str, float], kept: dict[str, str]
) -> None:
    half = to_fp16(chain(*scales), ranges)
    assert half.kept_float == kept
    weights = {tensor.name: tensor.data_type for tensor in half.graph.graph.initializer}
    for i, node in enumerate(node for node in half.graph.graph.node if node.op_type == "Conv"):
        in_float = node.name in kept or i == len(scales) - 1
        assert weights[node.input[1]] == (TensorProto.FLOAT if in_float else TensorProto.FLOAT16)


def test_the_twin_rounds_every_result() -> None:
    graph = to_fp16(chain(1 / 3, 3, 1), {}).graph
    x = np.float32(1.001)
    third = np.float16(np.float32(np.float16(x)) * np.float32(np.float16(1 / 3)))
    expected = np.float16(np.float32(third) * 3)
    twin = rounded_twin(graph)
    assert Counter(node.op_type for node in twin.graph.node)["Conv"] == 3
    session = onnxruntime.InferenceSession(twin.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 1, 1, 1), x)})
    assert found.item() == expected
