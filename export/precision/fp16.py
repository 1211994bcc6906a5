"""The FP32 graph as an FP16 graph whose types are all explicit, as TensorRT's strong typing needs it.

In and out: an ONNX graph of the contract (frames uint8, score and map float32). Weights and activations between
convolutions are float16. Float32 stay: the pixel normalisation, the convolutions with none behind them (they give the
score and the memory's coordinates) and everything behind those, operators outside `FP16_OPERATORS`, and nodes whose
weights or measured activations don't fit into float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.export.graph_editing import copy_of, measure
from simplenet_edge.spec import Frames

__all__ = ["FP16_OPERATORS", "Fp16Graph", "activation_ranges", "rounded_twin", "to_fp16"]

_LINEAR = {"AveragePool", "Conv", "Gemm", "GlobalAveragePool", "MatMul"}
_ELEMENTWISE = {"Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool", "Mul", "Relu", "Sigmoid", "Sub"}
_LAYOUT = {"Concat", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
FP16_OPERATORS = frozenset(_LINEAR | _ELEMENTWISE | _LAYOUT)
"""Operators that every engine runs in float16 without losing more than the rounding of their results."""

_HEADROOM = 4  # a defect may drive an activation beyond what good calibration parts show
_LARGEST = float(np.finfo(np.float16).max) / _HEADROOM
_SMALLEST = float(np.finfo(np.float16).smallest_normal)


@dataclass(frozen=True)
class Fp16Graph:
    """The typed graph, and the nodes that stayed float32 because a value doesn't fit: name -> the reason."""

    graph: onnx.ModelProto
    kept_float: dict[str, str]


def activation_ranges(model: onnx.ModelProto, frames: Iterable[Frames]) -> dict[str, float]:
    """The largest magnitude of each float32 activation over model frames uint8 `(H, W, 3)`, read one by one.

    The maxima are taken inside the graph, so memory does not grow with the number of frames.
    """
    names = sorted(_activations(model, TensorProto.FLOAT))
    nodes = []
    for i, name in enumerate(names):
        nodes.append(helper.make_node("Abs", [name], [f"probe_abs_{i}"]))
        nodes.append(helper.make_node("ReduceMax", [f"probe_abs_{i}"], [f"probe_{i}"], keepdims=0))
    largest = np.zeros(len(names))
    for found in measure(model, nodes, [], [f"probe_{i}" for i in range(len(names))], frames):
        largest = np.maximum(largest, found)
    return dict(zip(names, largest.tolist(), strict=True))


def to_fp16(model: onnx.ModelProto, ranges: Mapping[str, float]) -> Fp16Graph:
    """`model` with float16 where it is safe; `ranges` are the magnitudes that `activation_ranges` measured.

    An activation without a range counts as one that fits. The graph is checked: ONNX's type inference must agree.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    of_weights = {name: _magnitude(tensor) for name, tensor in weights.items() if tensor.data_type == TensorProto.FLOAT}
    magnitude = {**ranges, **of_weights}
    floats = _activations(model, TensorProto.FLOAT) | of_weights.keys()
    candidates = _between_convolutions(model)
    kept: dict[str, str] = {}
    halves = set()
    for node in model.graph.node:
        if node.op_type not in FP16_OPERATORS or node.name not in candidates:
            continue
        unfit = [
            f"{name} reaches {magnitude[name]:.3g}"
            for name in (*node.input, *node.output)
            if name in magnitude and not _fits(magnitude[name])
        ]
        if unfit:
            kept[node.name] = ", ".join(unfit)
        else:
            halves.add(node.name)
    return Fp16Graph(_retype(model, halves, floats, weights), kept)


def rounded_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same arithmetic in float32 with every float16 result rounded to float16.

    ONNX Runtime has no float16 kernels for x86 and takes out the casts between nodes, so that a float16 graph keeps
    float32 activations there and looks better than it is. This graph shows what float16 storage costs.
    """
    halves = _activations(model, TensorProto.FLOAT16)
    twin = copy_of(model)
    del twin.graph.node[:], twin.graph.initializer[:], twin.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        twin.graph.initializer.append(tensor)
    for source in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT16:
            node = helper.make_node("Identity", list(node.input), list(node.output), name=node.name)
        rounded = [name for name in node.output if name in halves]
        for i, name in enumerate(node.output):
            if name in halves:
                node.output[i] = f"{name}/exact"
        twin.graph.node.append(node)
        for name in rounded:
            twin.graph.node.append(
                helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16)
            )
            twin.graph.node.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    onnx.checker.check_model(twin, full_check=True)
    return twin


def _between_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that are, or come behind, a convolution, and have another one behind them."""
    behind: set[str] = set()  # tensors
    after: set[str] = set()  # nodes
    for node in model.graph.node:
        if node.op_type == "Conv" or behind.intersection(node.input):
            behind.update(node.output)
            after.add(node.name)
    ahead: set[str] = set()
    before: set[str] = set()
    for node in reversed(model.graph.node):
        leads = bool(ahead.intersection(node.output))
        if leads:
            before.add(node.name)
        if leads or node.op_type == "Conv":
            ahead.update(node.input)
    return after & before


def _retype(
    model: onnx.ModelProto, halves: set[str], floats: set[str], weights: Mapping[str, TensorProto]
) -> onnx.ModelProto:
    """The graph with the named nodes in float16 and a Cast wherever a tensor is wanted in its other type."""
    typed = copy_of(model)
    del typed.graph.node[:], typed.graph.initializer[:], typed.graph.value_info[:]
    half_tensors = {name for node in model.graph.node if node.name in halves for name in node.output}
    stored: dict[str, TensorProto] = {}
    cast: dict[tuple[str, bool], str] = {}
    for source in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        half = node.name in halves
        for i, name in enumerate(node.input):
            if name in weights:
                node.input[i] = _store(weights[name], half and name in floats, stored)
            elif name in floats and (name in half_tensors) != half:
                if (name, half) not in cast:
                    cast[name, half] = f"{name}/{'half' if half else 'float'}"
                    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                    label = f"{cast[name, half]}/cast"
                    typed.graph.node.append(helper.make_node("Cast", [name], [cast[name, half]], name=label, to=kind))
                node.input[i] = cast[name, half]
        typed.graph.node.append(node)
    typed.graph.initializer.extend(stored.values())
    onnx.checker.check_model(typed, full_check=True)
    return onnx.shape_inference.infer_shapes(typed)


def _store(tensor: TensorProto, half: bool, stored: dict[str, TensorProto]) -> str:
    if not half:
        stored[tensor.name] = tensor
        return str(tensor.name)
    name = f"{tensor.name}/half"
    if name not in stored:
        stored[name] = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)
    return name


def _fits(magnitude: float) -> bool:
    return magnitude == 0 or _SMALLEST <= magnitude <= _LARGEST


def _activations(model: onnx.ModelProto, kind: int) -> set[str]:
    """Names of the tensors of an element type, less the constants."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name for value in values if value.type.tensor_type.elem_type == kind}


def _magnitude(tensor: TensorProto) -> float:
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
