"""TensorRT-RTX compiles every precision for the GPUs that industrial PCs have; its builder needs none."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from simplenet_edge.export.precision.activation_shift import shift_activations
from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.precision.int8 import activation_scales, backbone_nodes, quantizable_layers, quantize
from simplenet_edge.spec import SimpleNetConfig
from tests.export.conftest import SIZE_HW, graph_of, smooth_frames
from tests.models import random_model
from tests.rtx import ARCHITECTURES, compile_plan

pytestmark = pytest.mark.slow


def precisions(graph: onnx.ModelProto, size_hw: tuple[int, int]) -> dict[str, bytes]:
    """The serialised graph of each precision, calibrated on two frames."""
    centred = shift_activations(graph)
    scales: Any = activation_scales(centred, "min-max", smooth_frames(2, size_hw=size_hw))
    quantized = quantize(centred, scales, list(quantizable_layers(centred)))
    return {
        "fp32": graph.SerializeToString(),
        "fp16": to_fp16(graph, {}).graph.SerializeToString(),
        "int8": to_fp16(quantized, {}, backbone_nodes(graph)).graph.SerializeToString(),
    }


@pytest.fixture(scope="module")
def small(small_graph: onnx.ModelProto) -> dict[str, bytes]:
    return precisions(small_graph, SIZE_HW)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_mobilenet_compiles(small: dict[str, bytes], precision: str, architecture: str) -> None:
    assert len(compile_plan(small[precision], SIZE_HW, architecture)) > 0


@pytest.mark.timeout(1200)
def test_a_wide_resnet_compiles_and_its_weights_shrink() -> None:
    size_hw = (288, 288)
    graph = graph_of(random_model(SimpleNetConfig("wide_resnet50_2", ("layer2", "layer3")), size_hw))
    graphs = precisions(graph, size_hw)
    for architecture in ARCHITECTURES:
        plans = {name: len(compile_plan(content, size_hw, architecture)) for name, content in graphs.items()}
        assert plans["fp16"] == pytest.approx(plans["fp32"] / 2, rel=0.05)
        # a quarter of the weights, and the code of the INT8 kernels, which is several megabytes whatever the model
        assert plans["int8"] - plans["fp32"] / 4 < 10e6
        assert plans["int8"] < 0.36 * plans["fp32"]
    assert len(graphs["int8"]) == pytest.approx(len(graphs["fp32"]) / 4, rel=0.1)
