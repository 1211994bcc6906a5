"""A tiny but whole bundle: a high-pass filter for a model, written and read through the same code as a real one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.bundle import Bundle, Manifest, PrecisionRecord, golden_files, write_bundle
from simplenet_edge.spec import (
    Frames,
    InputSpec,
    OperatingPoint,
    Prediction,
    ScoreStatistics,
    SimpleNetConfig,
)

HEIGHT, WIDTH = 32, 48  # not square, so that a swap shows
THRESHOLD = 60.0  # the even frames below score under 30, those with a spot over 100


def tiny_graph(
    height: int = HEIGHT,
    width: int = WIDTH,
    batch: str | int = "B",
    frames_type: int = TensorProto.UINT8,
    score_name: str = "score",
    last_op: str = "Abs",
) -> bytes:
    """frames (B, H, W, 3) -> map = |3x3 high pass over the weighted channels| -> score = its maximum.

    `last_op="Log"` gives minus infinity and NaN instead.
    """
    kernel = np.full((3, 3), -1, np.float32)
    kernel[1, 1] = 8
    weight = np.array([0.05, 0.1, 0.15], np.float32)[None, :, None, None] * kernel  # the channels differ
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Pad", ["nchw", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "weight"], ["filtered"]),
        helper.make_node("Squeeze", ["filtered", "axis"], ["squeezed"]),
        helper.make_node(last_op, ["squeezed"], ["map"]),
        helper.make_node("ReduceMax", ["map"], [score_name], axes=[1, 2], keepdims=0),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "weight": weight,
        "axis": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", frames_type, [batch, height, width, 3])],
        [
            helper.make_tensor_value_info(score_name, TensorProto.FLOAT, [batch]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, height, width]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def even_frames(count: int, seed: int = 0) -> Frames:
    """Good parts: nearly even grey, uint8 (count, H, W, 3)."""
    rng = np.random.default_rng(seed)
    return rng.integers(125, 135, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def with_spot(frames: Frames) -> Frames:
    """The same parts with a bright spot of 4x4 pixels."""
    spotted = frames.copy()
    spotted[:, 10:14, 20:24] = 255
    return spotted


def predict(graph: bytes, frames: Frames) -> Prediction:
    """What ONNX Runtime, called directly, says."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return Prediction(*session.run(["score", "map"], {"frames": frames}))


def tiny_record(**changes: Any) -> PrecisionRecord:
    """What the tiny bundle says of fp32; `changes` replace fields."""
    point = changes.get("operating_point", OperatingPoint(THRESHOLD, alpha=0.05, n_calibration=40, guaranteed=True))
    low, median, high = (
        sorted([10.0, 15.0, point.threshold]) if point.threshold > 15 else [point.threshold] * 2 + [20.0]
    )
    fields: dict[str, Any] = {
        "graph": "model.fp32.onnx",
        "operating_point": point,
        "score_statistics": ScoreStatistics(point.n_calibration, median, std=2.0, min=low, median=median, max=high),
        "tolerance": 1e-4,
    }
    return PrecisionRecord(**{**fields, **changes})


def tiny_manifest(**changes: Any) -> Manifest:
    """The manifest of the tiny bundle; `changes` replace its fields or those of its fp32 record."""
    of_record = {field.name for field in dataclasses.fields(PrecisionRecord)} & changes.keys()
    record = tiny_record(**{name: changes.pop(name) for name in of_record})
    fields: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00Z",
        "model": SimpleNetConfig(backbone="wide_resnet50_2", layers=("layer2", "layer3")),
        "input": InputSpec(HEIGHT, WIDTH),
        "precisions": {"fp32": record},
        "versions": {"onnx": onnx.__version__},
    }
    return Manifest(**{**fields, **changes})


def tiny_files(graph: bytes | None = None, **predicted: Any) -> dict[str, bytes]:
    """The files of the tiny bundle: the graph, and three good golden frames and one with a spot."""
    frames = np.concatenate([even_frames(3), with_spot(even_frames(1, seed=1))])
    golden = predict(tiny_graph(), frames)._replace(**predicted)
    return {"model.fp32.onnx": tiny_graph() if graph is None else graph, **golden_files(frames, golden)}


def write_tiny_bundle(path: Path, graph: bytes | None = None, **changes: Any) -> Bundle:
    """The tiny bundle at `path`, a folder or a `.zip`."""
    return write_bundle(path, tiny_manifest(**changes), tiny_files(graph))
