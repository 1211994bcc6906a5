from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from simplenet_edge.comparison import INT8_TOLERANCE, compare
from simplenet_edge.contract import COORDINATES
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.int8 import float_layers, int8_layers, with_int8_weights
from simplenet_edge.export.tensorrt_lint import lint
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.runtime.teach.graph_memory import GraphMemory, with_coordinates
from simplenet_edge.spec import Frames
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


def test_all_but_what_is_behind_the_first_activation(stored: onnx.ModelProto, model: SimpleNet) -> None:
    n_convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.backbone.body.modules())
    assert float_layers(stored) == []
    head = 3 * len(model.config.layers) + 1  # pooled, for the score, for the coordinates; the product of the memory
    assert int8_layers(stored) == n_convolutions + head
    floats = [node.input[1] for node in stored.graph.node if node.op_type == "Conv" and "head." in node.input[1]]
    assert floats == ["head.tail.1.weight"]


def test_a_device_can_teach_it(model: SimpleNet, stored: onnx.ModelProto, frames: Frames) -> None:
    session = cpu_session(with_coordinates(stored.SerializeToString()))
    score, patches = session.run(["score", COORDINATES], {"frames": frames})
    assert model.memory is not None
    coarse_hw = model.memory.grid.hw
    assert patches.shape == (len(frames), len(model.memory.components), *coarse_hw)
    taught = GraphMemory(stored.SerializeToString()).with_patches(patches[0].reshape(patches.shape[1], -1).T)
    later = GraphPredictor(onnx.load_from_string(taught)).predict(frames).score
    assert later[0] <= 1e-3 * np.abs(score).max()  # no patch of a frame is farther from itself than the floor
    assert (later <= score + 1e-3 * np.abs(score).max()).all()


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
            one_in_all = "head.memory." in node.input[0]  # the steps of coordinates
            assert scale.shape == (() if one_in_all else (len(constants[node.input[0]]),))  # otherwise one a channel
