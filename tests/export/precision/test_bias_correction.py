from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.export.precision.bias_correction import BiasCorrection
from simplenet_edge.spec import Frames


def two_convolutions(scale: float) -> onnx.ModelProto:
    """frames -> two 1x1 convolutions of weights times `scale`, which share one bias, as equal biases do."""
    rng = np.random.default_rng(0)
    constants = {
        "first/weight": scale * rng.uniform(0.5, 1, (3, 3, 1, 1)).astype(np.float32),
        "second/weight": scale * rng.uniform(0.5, 1, (3, 3, 1, 1)).astype(np.float32),
        "bias": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first/weight", "bias"], ["hidden"], "first", group=1),
        helper.make_node("Conv", ["hidden", "second/weight", "bias"], ["out"], "second", group=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", 4, 5, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 3, 4, 5]) for name in ("hidden", "out")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def channel_means(model: onnx.ModelProto, frames: Frames) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [output.mean(axis=(0, 2, 3)) for output in session.run(["hidden", "out"], {"frames": frames})]


def test_each_convolution_gets_its_own_correction_of_a_shared_bias(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (4, 4, 5, 3), dtype=np.uint8)
    exact, rounded = two_convolutions(1.0), two_convolutions(1.1)
    corrected = BiasCorrection(exact, frames, None).apply(rounded)
    onnx.checker.check_model(corrected, full_check=True)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    assert "bias" not in weights  # nothing uses it any more
    hidden, out = channel_means(exact, frames)
    assert weights["first/bias"] == pytest.approx(-0.1 * hidden, rel=1e-4)  # what a tenth too much has added
    assert weights["second/bias"] == pytest.approx(-0.1 * out, rel=1e-4)
    assert channel_means(corrected, frames)[0] == pytest.approx(hidden, rel=1e-4)
