"""Which convolutions count, how far features are apart, and the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantizers import convolutions, error, summary


def graph(zero: Any, weight_scale: Any, rounded: bool = True) -> onnx.ModelProto:
    """One convolution of 2 channels behind a Q/DQ pair, its weights read from INT8."""
    constants = {
        "scale": np.float32(0.1),
        "zero": zero,
        "weight": np.ones((2, 2, 1, 1), np.int8),
        "weight/scale": np.asarray(weight_scale, np.float32),
        "weight/zero": np.zeros(np.shape(weight_scale), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weight", "weight/scale", "weight/zero"], ["w"], axis=0),
        helper.make_node("Conv", ["dq" if rounded else "x", "w"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in "xy")
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "one", [x], [y], stored))


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (graph(np.int8(0), [0.1, 0.2]), 1),
        (graph(np.uint8(0), [0.1, 0.2]), 0),  # unsigned
        (graph(np.int8(3), [0.1, 0.2]), 0),  # not symmetric
        (graph(np.int8(0), 0.1), 0),  # one scale for all weights
        (graph(np.int8(0), [0.1, 0.2], rounded=False), 0),
    ],
)
def test_convolutions_in_the_form_of_tensorrt(made: onnx.ModelProto, count: int) -> None:
    assert convolutions(made) == count


def test_error_is_in_the_spread_of_each_channel() -> None:
    exact = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [1.0], [50.0]])
    assert error([exact], [exact]) == 0
    assert error([exact + 0.2 * exact.std(dim=1, keepdim=True)], [exact]) == pytest.approx(0.2)
    assert error([exact, exact * 0], [exact, exact]) == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_summary_has_a_line_for_each_way() -> None:
    row = {"set": "parts", "seed": 0, "quantizer": "nncf", "convolutions": 33, "megabytes": 8.4, "aupro": None}
    rows = [row | {"equalised": even, "error": e, "image_auroc": 0.8} for even, e in ((False, 0.3), (True, 0.2))]
    assert summary(rows).splitlines()[2:] == [
        "| nncf | no | 0.300 | 0.800 | - | 33 | 8 |",
        "| nncf | yes | 0.200 | 0.800 | - | 33 | 8 |",
    ]
