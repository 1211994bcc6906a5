"""Each rule of the lint against a graph that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.errors import EngineError
from simplenet_edge.export.tensorrt_lint import lint, require_parsable

SCALE, ZERO = np.float32(0.1), np.int8(0)


def graph_of(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray | np.generic],
    opset: int = 18,
    domains: tuple[str, ...] = (),
    frames: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph from `x` to `y`."""
    graph = helper.make_graph(
        nodes,
        "rule",
        [helper.make_tensor_value_info("x", frames, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def quantized(zero_point: np.generic | None = ZERO, scale: np.generic = SCALE, opset: int = 18) -> onnx.ModelProto:
    """x -> QuantizeLinear -> DequantizeLinear -> y."""
    tail = [] if zero_point is None else ["zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", *tail], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", *tail], ["y"], name="dequantize"),
    ]
    constants = {"scale": scale, **({} if zero_point is None else {"zero": zero_point})}
    return graph_of(nodes, constants, opset)


def test_signed_symmetric_pairs_pass() -> None:
    assert lint(quantized()) == []
    require_parsable(quantized(), "int8")


def int32_bias() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["bias", "scale"], ["b"], name="bias"),
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", kernel_shape=[1, 1]),
    ]
    return graph_of(nodes, {"bias": np.array([3], np.int32), "scale": SCALE, "w": np.ones((1, 1, 1, 1), np.float32)})


def qlinear_conv() -> onnx.ModelProto:
    names = ["q", "scale", "zero", "w", "scale", "zero", "scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("QLinearConv", names, ["c"], name="conv", kernel_shape=[1, 1]),
        helper.make_node("DequantizeLinear", ["c", "scale", "zero"], ["y"], name="dequantize"),
    ]
    return graph_of(nodes, {"scale": SCALE, "zero": np.int8(0), "w": np.ones((1, 1, 1, 1), np.int8)})


def conv_integer() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("ConvInteger", ["q", "w"], ["c"], name="conv", kernel_shape=[1, 1]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    return graph_of(nodes, {"scale": SCALE, "zero": np.int8(0), "w": np.ones((1, 1, 1, 1), np.int8)})


def uint8_arithmetic() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="transpose"),
        helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
    ]
    return graph_of(nodes, {}, frames=TensorProto.UINT8)


def foreign_operator() -> onnx.ModelProto:
    return graph_of(
        [helper.make_node("Gelu", ["x"], ["y"], name="gelu", domain="com.example")], {}, 18, ("com.example",)
    )


def computed_zero_point() -> onnx.ModelProto:
    model = quantized()
    model.graph.node.insert(0, helper.make_node("Identity", ["stored"], ["zero"], name="zero"))
    model.graph.initializer[1].name = "stored"
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (int32_bias(), "dequantises INT32"),
        (quantized(zero_point=np.int8(3)), "zero-point is not 0"),
        (computed_zero_point(), "zero-point is not a constant"),
        (quantized(zero_point=np.uint8(0)), "UINT8, expected INT8"),
        (quantized(zero_point=None), "UINT8, expected INT8"),  # without a zero-point ONNX means uint8
        (quantized(scale=np.float16(0.1), opset=19), "scale is FLOAT16"),
        (uint8_arithmetic(), "reads uint8"),
        (qlinear_conv(), "integer operator"),
        (conv_integer(), "integer operator"),
        (foreign_operator(), "'com.example' is unknown"),
        (foreign_operator(), "domain 'com.example' are imported"),
        (quantized(opset=12), "opset 12"),
        (quantized(opset=21), "opset 21"),
    ],
)
def test_what_tensorrt_does_not_take_is_named(model: onnx.ModelProto, words: str) -> None:
    assert any(words in problem for problem in lint(model)), lint(model)
    with pytest.raises(EngineError, match="int8 graph can't be compiled"):
        require_parsable(model, "int8")


def test_uint8_into_a_cast_passes() -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    assert lint(graph_of([cast], {}, frames=TensorProto.UINT8)) == []
