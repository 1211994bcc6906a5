from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from simplenet_edge.comparison import INT8_TOLERANCE, compare
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.int8 import backbone_nodes, float_layers, int8_layers, with_int8_weights
from simplenet_edge.export.tensorrt_lint import lint
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames
from tests.export.conftest import difference
from tests.models import int8_model


@pytest.fixture(scope="module")
def model(small_model: SimpleNet, frames: Frames) -> SimpleNet:
    return int8_model(small_model, frames)


@pytest.fixture(scope="module")
def rounded(model: SimpleNet) -> onnx.ModelProto:
    return to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)


@pytest.fixture(scope="module")
def stored(rounded: onnx.ModelProto) -> onnx.ModelProto:
    return with_int8_weights(rounded)


def test_the_graph_computes_what_the_model_does(model: SimpleNet, stored: onnx.ModelProto, frames: Frames) -> None:
    found, expected = GraphPredictor(stored).predict(frames), model.predict(frames)
    assert compare(found, expected, 0.0).worst < INT8_TOLERANCE
    assert lint(stored) == []


def test_storing_the_weights_as_integers_changes_no_number(
    rounded: onnx.ModelProto, stored: onnx.ModelProto, frames: Frames
) -> None:
    before, after = (GraphPredictor(graph).predict(frames) for graph in (rounded, stored))
    np.testing.assert_allclose(after.map, before.map, rtol=1e-4, atol=1e-4 * np.ptp(before.map))
    assert stored.ByteSize() < 0.75 * rounded.ByteSize()


def test_all_convolutions_of_the_backbone_and_no_other(stored: onnx.ModelProto, model: SimpleNet) -> None:
    n_convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.backbone.body.modules())
    assert float_layers(stored) == []
    assert int8_layers(stored) == n_convolutions
    assert any(node.op_type == "Conv" and node.input[1].startswith("head.") for node in stored.graph.node)


def test_the_form_is_tensorrts(stored: onnx.ModelProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in stored.graph.initializer}
    for node in stored.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float32
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (scale > 0).all()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            assert scale.shape == (len(constants[node.input[0]]),)  # one a channel


def test_the_head_takes_float16_beside_int8(stored: onnx.ModelProto, frames: Frames) -> None:
    half = to_fp16(stored, {}, backbone_nodes(stored)).graph
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    weights = [name for name in kinds if name.endswith(".weight/half")]
    assert weights
    assert all(name.startswith("head.") for name in weights)
    assert TensorProto.INT8 in kinds.values()
    assert int8_layers(half) == int8_layers(stored)
    assert difference(half, stored, frames) < INT8_TOLERANCE
    assert lint(half) == []
