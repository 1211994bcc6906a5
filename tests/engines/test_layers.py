"""`verify --layers`: the tensor where an engine begins to differ, with the real comparator and ONNX Runtime."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.layers import compare_layers
from simplenet_edge.errors import ConfigError, EngineUnavailable, ParityError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle(bundle_path)


def broken(graph: bytes, place: int) -> tuple[bytes, str]:
    """The graph with one number of one convolution's weight turned around, and the tensor that it makes."""
    model = onnx.load_from_string(graph)
    node = [node for node in model.graph.node if node.op_type == "Conv"][place]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weight = numpy_helper.to_array(tensor).copy()
    weight[np.unravel_index(np.abs(weight).argmax(), weight.shape)] *= -1
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return model.SerializeToString(), node.output[0]


def test_an_engine_that_computes_the_graph_drifts_nowhere(bundle: Bundle) -> None:
    frames, _ = bundle.golden()
    found = compare_layers(bundle.graph(), frames[:1], "onnxruntime").require()
    assert found.first is None
    assert found.layers[-1].tensor in ("score", "map")
    assert len(found.layers) > 30
    assert np.median([row.difference for row in found.layers]) < 1e-5


@pytest.mark.parametrize("place", [0, 5, -3])
def test_the_first_tensor_that_drifts_is_named(bundle: Bundle, place: int) -> None:
    frames, _ = bundle.golden()
    graph, tensor = broken(bundle.graph(), place)
    found = compare_layers(bundle.graph(), frames[:1], "onnxruntime", found=graph)
    assert found.first is not None
    assert found.first.tensor == tensor
    before = found.layers[: found.layers.index(found.first)]
    assert all(row.difference < found.allowed for row in before)
    with pytest.raises(ParityError, match=f"drifts first at {tensor}"):
        found.require()


def test_what_is_not_there_is_said(bundle: Bundle) -> None:
    frames, _ = bundle.golden()
    with pytest.raises(ConfigError, match="not on 'openvino'"):
        compare_layers(bundle.graph(), frames[:1], "openvino")
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(EngineUnavailable, match="tensorrt package is not installed"):
            compare_layers(bundle.graph(), frames[:1], "tensorrt")
