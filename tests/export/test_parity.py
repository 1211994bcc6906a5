from __future__ import annotations

import numpy as np
import pytest
import torch

from simplenet_edge.errors import ParityError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.parity import prove_parity, random_frames
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.spec import SimpleNetConfig
from tests.models import random_model

pytestmark = pytest.mark.slow


def test_random_frames_are_seeded() -> None:
    assert np.array_equal(random_frames(2, (8, 9)), random_frames(2, (8, 9)))
    assert random_frames(1, (8, 9)).shape == (1, 8, 9, 3)
    assert not np.array_equal(random_frames(1, (8, 9)), random_frames(1, (8, 9), seed=1))


def test_a_graph_of_other_weights_is_refused() -> None:
    model = random_model(SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32, discriminator_hidden=16))
    folded = DeployedSimpleNet(model, choose_forms(model))
    graph = to_onnx(folded, model.input_spec).SerializeToString()
    frames = random_frames(2, (64, 96))
    _, proof = prove_parity(model, folded, graph, frames, threshold=0.0)
    assert max(proof["onnx"].map_max, proof["folded"].map_max) < 2e-5
    with torch.no_grad():
        model.discriminator.tail.weight *= 1.01
    with pytest.raises(ParityError, match=r"folded model differs from the trained one by .* no bundle was written"):
        prove_parity(model, folded, graph, frames, threshold=0.0)
