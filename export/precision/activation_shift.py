"""Clipped activations moved so that they lie evenly around zero, where signed INT8 uses all of its values.

A ReLU6 gives 0 to 6; quantised symmetrically with no zero-point, as TensorRT wants it, half of the 256 values are never
used. `clip(x, 0, 6) - 3 = clip(x - 3, -3, 3)`, so that the shift goes into the bias of the convolution before, and the
convolution after takes it back with its own bias: `W a + b = W (a - 3) + (b + 3 sum W)`. Nothing is added to the graph
and nothing is approximated. A convolution that pads reads zeros where the shifted input would be -3, so only those that
don't pad, such as 1x1, let their input be moved.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from simplenet_edge.export.graph_editing import copy_of, drop_unused

__all__ = ["shift_activations"]


def shift_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph, equal but for rounding, with each Clip centred that stands between such convolutions."""
    centred = copy_of(model)
    graph = _Graph(centred.graph)
    for node in centred.graph.node:
        if node.op_type == "Clip" and graph.can_centre(node):
            graph.centre(node)
    drop_unused(centred.graph)
    onnx.checker.check_model(centred)
    return centred


class _Graph:
    """A graph with its constants, and who makes and who reads each tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def can_centre(self, clip: onnx.NodeProto) -> bool:
        """Whether constants bound it on one side of zero, and convolutions stand on both of its sides."""
        maker, readers = self._makers.get(clip.input[0]), self._readers.get(clip.output[0], [])
        if len(clip.input) < 3 or any(name not in self._constants for name in clip.input[1:]):
            return False
        low, high = self._bounds(clip)
        return (
            0 <= low < high < math.inf
            and maker is not None
            and maker.op_type == "Conv"
            and len(self._readers[clip.input[0]]) == 1
            and len(readers) > 0
            and all(node.op_type == "Conv" and not any(_pads(node)) for node in readers)
            and all(node.input[1] in self._constants for node in (maker, *readers))
        )

    def centre(self, clip: onnx.NodeProto) -> None:
        """Move it, and make good for it before and after."""
        low, high = self._bounds(clip)
        middle = (low + high) / 2
        dtype = self._constants[clip.input[1]].dtype
        for i, bound in ((1, low), (2, high)):
            clip.input[i] = self._add(f"{clip.name}/bound_{i}", np.array(bound - middle, dtype))
        before = self._makers[clip.input[0]]
        self._shift_bias(before, np.full(len(self._constants[before.input[1]]), -middle))
        for behind in self._readers[clip.output[0]]:
            weight = self._constants[behind.input[1]].astype(np.float64)
            self._shift_bias(behind, middle * weight.sum(axis=(1, 2, 3)))

    def _bounds(self, clip: onnx.NodeProto) -> tuple[float, float]:
        return float(self._constants[clip.input[1]]), float(self._constants[clip.input[2]])

    def _shift_bias(self, conv: onnx.NodeProto, shift: npt.NDArray[np.float64]) -> None:
        """A bias of its own, for convolutions with equal ones share them."""
        weight = self._constants[conv.input[1]]
        bias = self._constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(weight), weight.dtype)
        name = self._add(f"{conv.name}/shifted_bias", (bias + shift).astype(weight.dtype))
        if len(conv.input) > 2:
            conv.input[2] = name
        else:
            conv.input.append(name)

    def _add(self, name: str, value: npt.NDArray[Any]) -> str:
        while name in self._constants:  # a convolution may stand behind one Clip and before another
            name += "'"
        self._constants[name] = value
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def _pads(conv: onnx.NodeProto) -> list[int]:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in conv.attribute}
    assert attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "the exporter writes pads"
    return list(attributes.get("pads", []))
