from __future__ import annotations

import pytest

from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.speedup import measure_speedup
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.spec import SimpleNetConfig
from tests.models import random_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dims", [(32, 32), (50, 30)])  # poolings that divide, and that overlap
def test_measures_both_graphs_in_turn(dims: tuple[int, int]) -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6", "features.10"), *dims, discriminator_hidden=16)
    model = random_model(config)
    folded = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec).SerializeToString()
    result = measure_speedup(model, folded, rounds=3)
    assert min(result.as_written_ms, result.folded_ms) > 0
    assert 0.01 < result.ratio < 1000
