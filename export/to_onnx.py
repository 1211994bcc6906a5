"""A deployed module as one ONNX graph: dynamic batch, fixed size, an opset that TensorRT 10.3 and newer parse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import torch
from torch import nn

from simplenet_edge.contract import COORDINATES, LESSON_PRODUCTS
from simplenet_edge.errors import ParityError
from simplenet_edge.model.onnx_graph import OPSET, onnx_graph
from simplenet_edge.spec import InputSpec

__all__ = ["OPSET", "to_onnx"]

_FREE_BATCH = 2  # an example of 1 would be taken for a constant


def to_onnx(module: nn.Module, spec: InputSpec) -> onnx.ModelProto:
    """The graph of a module that maps frames uint8 `(B, H, W, 3)` to `score` and `map`.

    Names are stable, no initialiser is stored twice, and nothing tells of the machine that exported it.
    Raises ParityError where PyTorch's exporter gives a graph outside the contract.
    """
    example = torch.zeros(_FREE_BATCH, spec.height, spec.width, 3, dtype=torch.uint8)
    model = onnx_graph(module, example, "frames", ["score", "map"], free_batch=True)
    _strip(model)
    _share_initializers(model)
    _name_coordinates(model.graph)
    _check_contract(model, spec)
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes about source files and versions: it would leak paths and change the hash."""
    graph = model.graph
    holders: Iterable[Any] = [
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ]
    for holder in holders:
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    model.producer_name, model.producer_version = "simplenet-edge", ""
    graph.name = "simplenet"


def _share_initializers(model: onnx.ModelProto) -> None:
    """Keep one of each group of equal initialisers (the two axes of a square map, for one)."""
    first: dict[tuple[Any, ...], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in model.graph.initializer:
        key = (tensor.data_type, tuple(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes())
        name = first.setdefault(key, tensor.name)
        if name == tensor.name:
            kept.append(tensor)
        else:
            renamed[tensor.name] = name
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)


def _name_coordinates(graph: onnx.GraphProto) -> None:
    """Give what the memory measures its name: the map that its product reads the rows of."""
    producers = {name: node for node in graph.node for name in node.output}
    rows = next((node.input[0] for node in graph.node if LESSON_PRODUCTS in node.input), None)
    if rows is None:
        return
    while producers[rows].op_type in ("Transpose", "Reshape"):
        rows = producers[rows].input[0]
    for names in (field for node in graph.node for field in (node.input, node.output)):
        for i, name in enumerate(names):
            if name == rows:
                names[i] = COORDINATES
    for value in graph.value_info:
        if value.name == rows:
            value.name = COORDINATES


def _check_contract(model: onnx.ModelProto, spec: InputSpec) -> None:
    expected = {
        "frames": (onnx.TensorProto.UINT8, ["batch", spec.height, spec.width, 3]),
        "score": (onnx.TensorProto.FLOAT, ["batch"]),
        "map": (onnx.TensorProto.FLOAT, ["batch", spec.height, spec.width]),
    }
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in [*model.graph.input, *model.graph.output]
    }
    if found != expected:
        raise ParityError(f"the exported graph has {found}, expected {expected}; is the PyTorch version supported?")
