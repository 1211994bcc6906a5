from __future__ import annotations

import numpy as np
import pytest
import torch

from simplenet_edge.errors import ParityError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.parity import compare, prove_parity, random_frames
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.spec import Prediction, SimpleNetConfig
from tests.models import random_model


def prediction(*scores: float) -> Prediction:
    maps = np.zeros((len(scores), 2, 2), np.float32)
    maps[:, 0, 0] = scores
    return Prediction(np.array(scores, np.float32), maps)


def test_differences_are_shares_of_the_range_of_the_maps() -> None:
    result = compare(prediction(0.0, 10.0), prediction(0.0, 8.0), threshold=4.0)
    assert (result.score_max, result.map_max) == (0.25, 0.25)
    assert (result.score_mean, result.map_mean) == (0.125, 0.25 / 8)
    assert (result.verdict_flips, result.n_frames) == (0, 2)


@pytest.mark.parametrize(
    ("threshold", "flips"),
    [(8.5, 1), (7.9, 0), (8.0, 0)],  # between the two; below both; at the reference, where rounding decides
)
def test_a_flip_is_a_verdict_that_differs_clearly(threshold: float, flips: int) -> None:
    assert compare(prediction(0.0, 9.0), prediction(0.0, 8.0), threshold).verdict_flips == flips


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
    assert max(proof["onnx"].map_max, proof["folded"].map_max) < 1e-5
    with torch.no_grad():
        model.discriminator.tail.weight *= 1.01
    with pytest.raises(ParityError, match=r"folded model differs from the trained one by .* no bundle was written"):
        prove_parity(model, folded, graph, frames, threshold=0.0)
