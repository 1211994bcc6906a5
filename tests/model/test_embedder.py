"""The embedder gives the rows of the model that it is of, whatever the backbone, the layers and the alignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simplenet_edge.model.embedder import Embedder, FastPredictor
from simplenet_edge.spec import SimpleNetConfig
from tests.models import random_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "config",
    [
        SimpleNetConfig(
            "efficientnet_lite0", ("blocks.2", "blocks.3", "blocks.4"), 232, 232, alignment="receptive-field"
        ),
        SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 100, 90),  # windows that overlap
        SimpleNetConfig("resnet18", ("layer2", "layer3"), 384, 384, patch_stride=2),
        SimpleNetConfig("resnet18", ("layer2",), 200, 64, patch_size=1),
    ],
    ids=str,
)
def test_rows_are_the_models(config: SimpleNetConfig) -> None:
    model = random_model(config, (64, 96))
    images = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        expected, found = model.embed(images), Embedder(model)(images)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_predictions_are_the_models(rng: np.random.Generator) -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 64, 64, score_top_k=9, memory_size=20)
    model = random_model(config, (64, 96))
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected, found = model.predict(frames), FastPredictor(model).predict(frames)
    assert np.abs(found.map - expected.map).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(found.score - expected.score).max() < 1e-4 * np.ptp(expected.map)


def test_the_model_stays_as_it_was() -> None:
    model = random_model(SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32), (64, 96))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Embedder(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(model.parameters()).is_contiguous()
