from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from simplenet_edge.errors import ConfigError
from simplenet_edge.export.precision.agreement import Agreement
from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.int8 import CALIBRATORS, activation_scales, quantizable_layers, quantize
from simplenet_edge.export.tensorrt_lint import lint
from simplenet_edge.spec import Frames
from tests.export.conftest import difference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scales(small_graph: onnx.ModelProto, frames: Frames) -> Any:
    return activation_scales(small_graph, "min-max", frames)


@pytest.fixture(scope="module")
def quantized(small_graph: onnx.ModelProto, scales: Any) -> onnx.ModelProto:
    return quantize(small_graph, scales, list(quantizable_layers(small_graph)))


def test_the_graph_stays_near_fp32_and_passes_the_lint(
    small_graph: onnx.ModelProto, quantized: onnx.ModelProto, frames: Frames
) -> None:
    assert 1e-4 < difference(quantized, small_graph, frames) < 0.1
    assert lint(quantized) == []


def test_only_the_backbone_is_quantised(small_graph: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
    layers = quantizable_layers(small_graph)
    assert len(layers) == 39
    assert next(iter(layers.values())) == "features.0.0"
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    dequantized = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    for node in quantized.graph.node:
        if node.op_type != "Conv":
            assert node.op_type == "Add" or not dequantized.keys() & set(node.input), (
                node.name
            )  # a residual may be INT8
        elif node.name in layers:
            weight = dequantized[node.input[1]]
            assert types[weight.input[0]] == TensorProto.INT8
            assert node.input[0] in dequantized
            assert types[node.input[2]] == TensorProto.FLOAT  # the bias
        else:
            assert node.input[1].startswith("head.")
            assert not dequantized.keys() & set(node.input)


def test_weights_have_a_scale_a_channel(quantized: onnx.ModelProto) -> None:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in quantized.graph.initializer}
    weights = [node for node in quantized.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in shapes]
    assert len(weights) == 39
    for node in weights:
        assert shapes[node.input[1]] == shapes[node.input[0]][:1]


def test_the_head_takes_float16_beside_int8(quantized: onnx.ModelProto) -> None:
    mixed = to_fp16(quantized, {}).graph
    types = {tensor.name: tensor.data_type for tensor in mixed.graph.initializer}
    assert lint(mixed) == []
    scales = {node.input[1] for node in mixed.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {types[name] for name in scales} == {TensorProto.FLOAT}
    assert types["head.branches.1.0.weight/half"] == TensorProto.FLOAT16


def test_layers_can_be_left_in_float(small_graph: onnx.ModelProto, scales: Any, frames: Frames) -> None:
    layers = list(quantizable_layers(small_graph))
    agreement = Agreement(GraphPredictor(small_graph), frames)
    all_of_them = agreement.difference(quantize(small_graph, scales, layers))
    none = agreement.difference(quantize(small_graph, scales, layers, without=layers[1:]))
    assert 0 < none < all_of_them
    assert agreement.difference(small_graph) == 0


def test_calibrators_differ_and_read_frames_one_by_one(small_graph: onnx.ModelProto, frames: Frames) -> None:
    tensor = "hardtanh"  # behind the first ReLU6
    found = {}
    for name in CALIBRATORS:
        read = iter(frames)
        low, high = activation_scales(small_graph, name, read)[tensor].range_value
        assert next(read, None) is None
        found[name] = max(abs(float(np.asarray(low).item())), abs(float(np.asarray(high).item())))
    assert found["percentile 99.99"] < found["min-max"]
    assert found["entropy"] <= found["min-max"] * 1.01


def test_a_backbone_without_convolutions_is_refused() -> None:
    with pytest.raises(ConfigError, match="no convolution"):
        quantizable_layers(onnx.ModelProto())
