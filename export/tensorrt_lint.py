"""What TensorRT cannot parse, or silently reads as something else, found in a graph before a builder sees it.

Each rule comes from a graph that TensorRT 10.3 and newer, or TensorRT-RTX, refuses or misreads.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from simplenet_edge.errors import EngineError

__all__ = ["OPSETS", "lint", "require_parsable"]

OPSETS = range(13, 21)
"""ONNX opsets: from the first with scales a channel to the newest that TensorRT 10.3 parses."""

_INTEGER_OPERATORS = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_STANDARD_DOMAINS = ("", "ai.onnx")


def lint(model: onnx.ModelProto) -> list[str]:
    """What is wrong with `model`, one line each; empty where TensorRT takes it."""
    types = _tensor_types(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    problems = _opset_problems(model)
    for node in model.graph.node:
        found = [_operator_problem(node), _uint8_problem(node, types)]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found += [_type_problem(node, types), _scale_problem(node, types), _zero_point_problem(node, weights)]
        problems += [f"{node.op_type} {node.name}: {problem}" for problem in found if problem]
    return problems


def require_parsable(model: onnx.ModelProto, precision: str) -> None:
    """Raise EngineError, with every problem, for a graph that TensorRT does not take."""
    if problems := lint(model):
        raise EngineError(
            f"the {precision} graph can't be compiled by TensorRT ({'; '.join(problems)}); export another precision, "
            "and please report this"
        )


def _opset_problems(model: onnx.ModelProto) -> list[str]:
    problems = []
    for opset in model.opset_import:
        if opset.domain not in _STANDARD_DOMAINS:
            problems.append(f"operators of the domain {opset.domain!r} are imported, expected ONNX's own only")
        elif opset.version not in OPSETS:
            problems.append(f"opset {opset.version}, expected {OPSETS.start} to {OPSETS.stop - 1}")
    return problems


def _operator_problem(node: NodeProto) -> str | None:
    if node.domain not in _STANDARD_DOMAINS:
        return f"the domain {node.domain!r} is unknown"
    if node.op_type.startswith(_INTEGER_OPERATORS):
        return "an integer operator, expected Q/DQ pairs around a float one"
    return None


def _uint8_problem(node: NodeProto, types: dict[str, int]) -> str | None:
    if node.op_type == "Cast" or not any(types.get(name) == TensorProto.UINT8 for name in node.input):
        return None
    return "reads uint8, which TensorRT takes from a graph input into a Cast only and elsewhere reads as int8"


def _type_problem(node: NodeProto, types: dict[str, int]) -> str | None:
    quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    found = types.get(quantized)
    if found == TensorProto.INT32:
        return "dequantises INT32 (a bias), expected a float bias"
    if found != TensorProto.INT8:
        return f"{quantized} is {TensorProto.DataType.Name(found or 0)}, expected INT8"
    return None


def _scale_problem(node: NodeProto, types: dict[str, int]) -> str | None:
    found = types.get(node.input[1])
    if found != TensorProto.FLOAT:
        return f"its scale is {TensorProto.DataType.Name(found or 0)}, expected FLOAT (see TensorRT#4832)"
    return None


def _zero_point_problem(node: NodeProto, weights: dict[str, TensorProto]) -> str | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    if node.input[2] not in weights:
        return "its zero-point is not a constant"
    if np.any(numpy_helper.to_array(weights[node.input[2]])):
        return "its zero-point is not 0"
    return None


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {
        **{value.name: value.type.tensor_type.elem_type for value in values},
        **{tensor.name: tensor.data_type for tensor in graph.initializer},
    }
