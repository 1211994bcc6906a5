from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from roofline import NodeCost, floors_ms, node_costs


def test_costs_of_a_convolution_and_a_product() -> None:
    """Grouped 3x3 convolution 4 -> 6 channels at 8x8, stride 2; then 16 columns times 16x5."""
    weights = {
        "w": np.zeros((6, 2, 3, 3), np.float32),
        "b": np.zeros(6, np.float32),
        "m": np.zeros((16, 5), np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Reshape", ["r", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "m"], ["y"]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6, 5])],
        [
            *(numpy_helper.from_array(value, name) for name, value in weights.items()),
            numpy_helper.from_array(np.array([-1, 6, 16], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    assert node_costs(model) == [
        NodeCost(flops=2 * 6 * 16 * 2 * 9, weight_bytes=4 * (108 + 6), activation_bytes=4 * (4 * 64 + 6 * 16)),
        NodeCost(flops=2 * 6 * 5 * 16, weight_bytes=4 * 80, activation_bytes=4 * (96 + 30)),
    ]


@pytest.mark.parametrize(
    ("flops_per_ms", "bytes_per_ms", "floor", "by_layer"),
    [
        (10.0, 1e9, 30.0, 30.0),  # operations limit all
        (1e9, 10.0, 8.0, 24.0),  # memory limits all: weights and ends once; each node's activations
        (100.0, 10.0, 8.0, 24.0),
        (10.0, 10.0, 30.0, 34.0),  # one node by operations, one by memory
    ],
)
def test_floors(flops_per_ms: float, bytes_per_ms: float, floor: float, by_layer: float) -> None:
    costs = [NodeCost(200, 20, 80), NodeCost(100, 40, 100)]
    assert floors_ms(costs, 20, flops_per_ms, bytes_per_ms) == (pytest.approx(floor), pytest.approx(by_layer))
