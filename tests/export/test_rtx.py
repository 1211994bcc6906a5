"""TensorRT-RTX compiles every precision for the GPUs that industrial PCs have; its builder needs none."""

from __future__ import annotations

import pytest

from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.precision.int8 import with_int8_weights
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import SimpleNetConfig
from tests.export.conftest import SIZE_HW, graph_of, smooth_frames
from tests.models import int8_model, random_model
from tests.rtx import ARCHITECTURES, compile_plan

pytestmark = pytest.mark.slow


def precisions(model: SimpleNet) -> dict[str, bytes]:
    """The serialised graph of each precision, INT8 calibrated on two frames."""
    graph = graph_of(model)
    quantized = with_int8_weights(graph_of(int8_model(model, smooth_frames(2, size_hw=model.input_spec.size_hw))))
    return {
        "fp32": graph.SerializeToString(),
        "fp16": to_fp16(graph, {}).graph.SerializeToString(),
        "int8": quantized.SerializeToString(),
    }


@pytest.fixture(scope="module")
def small(small_model: SimpleNet) -> dict[str, bytes]:
    return precisions(small_model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_mobilenet_compiles(small: dict[str, bytes], precision: str, architecture: str) -> None:
    assert len(compile_plan(small[precision], SIZE_HW, architecture)) > 0


@pytest.mark.timeout(1200)
def test_a_wide_resnet_compiles_and_its_weights_shrink() -> None:
    size_hw = (288, 288)
    graphs = precisions(random_model(SimpleNetConfig("wide_resnet50_2", ("layer2", "layer3")), size_hw))
    for architecture in ARCHITECTURES:
        plans = {name: len(compile_plan(content, size_hw, architecture)) for name, content in graphs.items()}
        assert plans["fp16"] == pytest.approx(plans["fp32"] / 2, rel=0.05)
        # a quarter of the weights, and the code of the INT8 kernels, which is several megabytes whatever the model
        assert plans["int8"] - plans["fp32"] / 4 < 10e6
        assert plans["int8"] < 0.36 * plans["fp32"]
    assert len(graphs["int8"]) == pytest.approx(len(graphs["fp32"]) / 4, rel=0.1)
