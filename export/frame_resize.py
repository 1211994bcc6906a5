"""Whole camera frames into the graph: `imaging.preprocess`'s resize as the first nodes of an ONNX graph.

Before: `frames` uint8 `(B, H, W, 3)`. After: `frames` uint8 `(B, H0, W0, 3)`, one camera size, everything else as it
was, whatever the precision. For a GPU engine, which then needs no CPU resize; on a CPU OpenCV's own is faster.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.imaging.preprocess import resize_matrices
from simplenet_edge.spec import InputSpec

__all__ = ["with_frame_resize"]

FRAMES = "frames"


def with_frame_resize(graph: onnx.ModelProto, frame_hw: tuple[int, int], spec: InputSpec) -> onnx.ModelProto:
    """A copy of `graph` that takes camera frames of `frame_hw` and resizes, cuts or pads them itself.

    Two constant matrices, rounded to whole grey levels. OpenCV rounds in integers: at most one level away, in less than
    one pixel of a hundred where the frame shrinks, in about one of eight where it grows.
    """
    resized = onnx.ModelProto()
    resized.CopyFrom(graph)
    nodes = resized.graph.node
    casts = [node for node in nodes if FRAMES in node.input]
    assert [node.op_type for node in casts] == ["Cast"], casts  # our own graphs cast the frames to float first
    levels = casts[0].output[0]
    nodes.remove(casts[0])
    rows, columns = resize_matrices(frame_hw, spec)
    constants = {"resize_rows": rows, "resize_columns": columns.T, "resize_half": np.float32(0.5)}
    resized.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()
    )
    steps = [
        helper.make_node("Cast", [FRAMES], ["resize_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["resize_float"], ["resize_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("MatMul", ["resize_planes", "resize_columns"], ["resize_narrow"]),
        helper.make_node("MatMul", ["resize_rows", "resize_narrow"], ["resize_small"]),
        helper.make_node("Add", ["resize_small", "resize_half"], ["resize_raised"]),
        helper.make_node("Floor", ["resize_raised"], ["resize_levels"]),
        helper.make_node("Transpose", ["resize_levels"], [levels], perm=[0, 2, 3, 1]),
    ]
    for step in steps:
        step.name = f"node_{step.output[0]}"
    for step in reversed(steps):
        nodes.insert(0, step)
    height, width = resized.graph.input[0].type.tensor_type.shape.dim[1:3]
    height.dim_value, width.dim_value = frame_hw
    onnx.checker.check_model(resized, full_check=True)
    return resized
