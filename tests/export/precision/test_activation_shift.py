from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from simplenet_edge.export.precision.activation_shift import shift_activations


def graph(
    rng: np.random.Generator, pad: int = 0, bias: bool = True, bounds: tuple[float, float] = (0.0, 6.0), kernel: int = 1
) -> onnx.ModelProto:
    """x -> Conv 3x3 -> Clip -> Conv -> Clip -> Conv 1x1 -> y, and one more reader of the first Clip."""
    constants = {
        "w1": rng.normal(0, 1, (4, 3, 3, 3)),
        "b1": rng.normal(3, 2, 4),
        "w2": rng.normal(0, 1, (5, 4, kernel, kernel)),
        "b2": rng.normal(3, 2, 5),
        "w3": rng.normal(0, 1, (2, 5, 1, 1)),
        "w4": rng.normal(0, 1, (2, 4, 1, 1)),
        "low": np.array(bounds[0]),
        "high": np.array(bounds[1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4),
        helper.make_node("Clip", ["c1", "low", "high"], ["a1"], name="clip1"),
        helper.make_node("Conv", ["a1", "w2", "b2"][: 3 if bias else 2], ["c2"], name="conv2", pads=[pad] * 4),
        helper.make_node("Clip", ["c2", "low", "high"], ["a2"], name="clip2"),
        helper.make_node("Conv", ["a2", "w3"], ["y"], name="conv3"),
        helper.make_node("Conv", ["a1", "w4"], ["z"], name="conv4"),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 2, "H", "W"]) for name in ("y", "z")],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, x: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(outputs, {"x": x}))


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 3]))
def test_the_same_numbers_from_activations_around_zero(seed: int, bias: bool, kernel: int) -> None:
    rng = np.random.default_rng(seed)
    model = graph(rng, bias=bias, kernel=kernel)
    x = rng.normal(0, 2, (1, 3, 8, 8)).astype(np.float32)
    centred = shift_activations(model)
    for before, after in zip(run(model, x, ["y", "z"]), run(centred, x, ["y", "z"]), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    for before, after in zip(run(model, x, ["a1", "a2"]), run(centred, x, ["a1", "a2"]), strict=True):
        np.testing.assert_allclose(after, before - 3, rtol=1e-4, atol=1e-4)
    assert [node.op_type for node in centred.graph.node] == [node.op_type for node in model.graph.node]
    used = {name for node in centred.graph.node for name in node.input}
    assert {tensor.name for tensor in centred.graph.initializer} <= used


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"pad": 1}, ["clip2"]),  # conv2 reads zeros around the first Clip; the second one is not concerned
        ({"bounds": (-3.0, 3.0)}, []),  # even already
        ({"bounds": (0.0, np.inf)}, []),  # a ReLU has no middle
    ],
)
def test_what_can_not_be_moved_stays(changes: dict[str, object], moved: list[str]) -> None:
    model = graph(np.random.default_rng(0), **changes)  # type: ignore[arg-type]
    centred = shift_activations(model)
    bounds = {node.name: list(node.input[1:]) for node in centred.graph.node if node.op_type == "Clip"}
    assert [name for name, inputs in bounds.items() if inputs != ["low", "high"]] == moved
