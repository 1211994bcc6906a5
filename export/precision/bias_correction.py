"""Corrects the biases of convolutions whose weights or inputs were rounded, so that an average part stays as it was.

Rounding shifts the mean of a channel: by the error of the weights times the mean of the inputs, and by the error that
the inputs have on average. On parts that all look alike the shift is the same everywhere, and it is known from good
images, so that the bias can take it back (Nagel et al. 2019, section 4.2). Both graphs are ONNX graphs of the contract
with the same node names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.export.graph_editing import drop_unused, measure
from simplenet_edge.spec import Frames

__all__ = ["BiasCorrection"]

_Means = Mapping[str, npt.NDArray[np.float64]]  # a tensor's mean by channel, by the tensor's name


class BiasCorrection:
    """Knows, from model frames uint8 `(H, W, 3)` of good parts, the mean inputs of the convolutions of `exact`.

    `quantized` is the same graph with the Q/DQ pairs whose rounding of the inputs counts, or None where none are
    quantised. Frames are read one by one. Each convolution is corrected for its own rounding, given exact inputs.
    """

    def __init__(self, exact: onnx.ModelProto, frames: Iterable[Frames], quantized: onnx.ModelProto | None) -> None:
        self._sources = {node.name: node for node in exact.graph.node if node.op_type == "Conv"}
        self._weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in exact.graph.initializer}
        scales = {}
        if quantized is not None:
            constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
            pairs = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
            scales = {node.input[0]: numpy_helper.to_array(constants[node.input[1]]) for node in pairs}
        names = {node.input[0] for node in self._sources.values()}
        self._means, self._rounded_means = _input_means(exact, names, scales, frames)

    def apply(self, rounded: onnx.ModelProto) -> onnx.ModelProto:
        """`rounded` itself, with the bias of each convolution that has one changed, so that its mean stays."""
        weights = {tensor.name: tensor for tensor in rounded.graph.initializer}
        makers = {name: node for node in rounded.graph.node for name in node.output}
        for node in rounded.graph.node:
            if node.op_type != "Conv" or len(node.input) < 3:
                continue
            source = self._sources[node.name]
            maker = makers.get(node.input[0])
            quantized = maker is not None and maker.op_type == "DequantizeLinear"
            mean = self._means[source.input[0]]
            found = _mean_output(
                node,
                _weight(node.input[1], weights, makers),
                self._rounded_means[source.input[0]] if quantized else mean,
            )
            shift = found - _mean_output(node, self._weights[source.input[1]], mean)
            value = numpy_helper.to_array(weights[node.input[2]])
            own = f"{node.name}/bias"  # convolutions with equal biases share one; their shifts differ
            rounded.graph.initializer.append(numpy_helper.from_array((value - shift).astype(value.dtype), own))
            node.input[2] = own
        drop_unused(rounded.graph)
        return rounded


def _input_means(
    model: onnx.ModelProto, names: Iterable[str], scales: Mapping[str, npt.NDArray[Any]], frames: Iterable[Frames]
) -> tuple[_Means, _Means]:
    """Channel means of tensors, averaged inside the graph: as they are, and after the quantisation by `scales`."""
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []

    def constant(name: str, value: npt.NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    axes = constant("probe/axes", np.array([0, 2, 3], np.int64))
    zero = constant("probe/zero", np.array(0, np.int8)) if scales else ""
    outputs: dict[str, tuple[str, str]] = {}
    for name in sorted(names):
        quantized = name
        if name in scales:
            scale = constant(f"{name}/probe_scale", scales[name])
            quantized = add("QuantizeLinear", [name, scale, zero], f"{name}/probe_q")
            quantized = add("DequantizeLinear", [quantized, scale, zero], f"{name}/probe_dq")
        outputs[name] = (
            add("ReduceMean", [name, axes], f"{name}/probe_mean", keepdims=0),
            add("ReduceMean", [quantized, axes], f"{name}/probe_rounded_mean", keepdims=0),
        )
    found = sorted({output for pair in outputs.values() for output in pair})
    rows = list(measure(model, nodes, constants, found, frames))
    means = {name: np.stack([row[i] for row in rows]).mean(axis=0, dtype=np.float64) for i, name in enumerate(found)}
    return (
        {name: means[exact] for name, (exact, _) in outputs.items()},
        {name: means[rounded] for name, (_, rounded) in outputs.items()},
    )


def _mean_output(
    node: onnx.NodeProto, weight: npt.NDArray[Any], input_mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The mean of each output channel `(O,)`, less the bias, with the borders taken for the inside."""
    groups = helper.get_node_attr_value(node, "group")
    of_channel = np.repeat(input_mean.reshape(groups, -1), len(weight) // groups, axis=0)  # what each channel reads
    means: npt.NDArray[np.float64] = (weight.sum(axis=(2, 3), dtype=np.float64) * of_channel).sum(axis=1)
    return means


def _weight(
    name: str, weights: Mapping[str, TensorProto], makers: Mapping[str, onnx.NodeProto]
) -> npt.NDArray[np.float64]:
    """A convolution's weight as it computes with it: a constant, or a dequantised one with a scale a channel."""
    if name in weights:
        value: npt.NDArray[Any] = numpy_helper.to_array(weights[name])
        return value.astype(np.float64)
    integers, scale, *_ = (numpy_helper.to_array(weights[part]) for part in makers[name].input)
    dequantized: npt.NDArray[np.float64] = integers.astype(np.float64) * scale.astype(np.float64).reshape(-1, 1, 1, 1)
    return dequantized
