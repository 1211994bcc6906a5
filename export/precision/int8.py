"""The graph of a model whose backbone is quantised, with the weights of its convolutions stored as INT8.

In: the folded graph of a `simplenet_edge.model.quantization.quantized` backbone, which rounds the inputs of its
convolutions by Q/DQ pairs and holds weights that are rounded already; a head in INT8 stores its own
(`export.int8_constants`). Out: the same numbers, in the form that TensorRT takes: signed, symmetric, one float32 scale
a channel, no quantised biases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from simplenet_edge.export.graph_editing import copy_of, drop_unused
from simplenet_edge.model.quantization import weight_scales

__all__ = ["float_layers", "int8_layers", "with_int8_weights"]

_BACKBONE = "backbone."  # how its weights are named in the graph
_LAYOUT = ("Reshape", "Transpose")
_ROUNDED = "/rounded"  # behind the name of a weight that is read from INT8


def with_int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each convolution of the backbone that reads rounded inputs reads its weights from INT8, too."""
    stored = copy_of(model)
    weights = {tensor.name: tensor for tensor in stored.graph.initializer}
    rounded = _rounded_tensors(stored)
    nodes = []
    for node in stored.graph.node:
        if node.op_type == "Conv" and node.input[0] in rounded and node.input[1] in weights:
            name = node.input[1]
            values, scale = _integers(numpy_helper.to_array(weights[name]).copy())
            parts = {"int8": values, "scale": scale, "zero": np.zeros(len(scale), np.int8)}
            stored.graph.initializer.extend(
                numpy_helper.from_array(value, f"{name}/{part}") for part, value in parts.items()
            )
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}/{part}" for part in parts],
                    [f"{name}{_ROUNDED}"],
                    name=f"{name}/dequantize",
                    axis=0,
                )
            )
            node.input[1] = f"{name}{_ROUNDED}"
        nodes.append(node)
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    drop_unused(stored.graph)
    onnx.checker.check_model(stored, full_check=True)
    return stored


def float_layers(model: onnx.ModelProto) -> list[str]:
    """The backbone's convolutions that do not compute in INT8, by the names of their layers."""
    return [
        node.input[1].removeprefix(_BACKBONE).removesuffix(".weight")
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1].startswith(_BACKBONE) and not node.input[1].endswith(_ROUNDED)
    ]


def int8_layers(model: onnx.ModelProto) -> int:
    """How many convolutions and matrix products compute in INT8."""
    rounded = _rounded_tensors(model)
    return sum(node.op_type in ("Conv", "MatMul") and rounded.issuperset(node.input[:2]) for node in model.graph.node)


def _rounded_tensors(model: onnx.ModelProto) -> set[str]:
    """What comes from a DequantizeLinear, in whatever layout."""
    rounded: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" or (node.op_type in _LAYOUT and node.input[0] in rounded):
            rounded.update(node.output)
    return rounded


def _integers(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A rounded weight `(O, I, k, k)` as integers and a scale for each of its channels `(O,)`."""
    scale = weight_scales(torch.from_numpy(weight)).numpy()
    return np.rint(weight / scale[:, None, None, None]).astype(np.int8), scale
