"""A small random model's graph, and frames that are smooth, as parts are."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, SimpleNetConfig
from tests.models import random_model

SIZE_HW = (96, 64)


def smooth_frames(count: int, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> Frames:
    """Frames uint8 `(count, H, W, 3)` of soft blots."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_CUBIC) for image in coarse])


def graph_of(model: SimpleNet) -> onnx.ModelProto:
    """The folded FP32 graph of a model."""
    return to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)


def difference(graph: onnx.ModelProto, reference: onnx.ModelProto, frames: Frames) -> float:
    """The worst difference of the maps, as a share of the reference maps' range."""
    expected = GraphPredictor(reference).predict(frames).map
    return float(np.abs(GraphPredictor(graph).predict(frames).map - expected).max() / np.ptp(expected))


@pytest.fixture(scope="session")
def small_model() -> SimpleNet:
    config = SimpleNetConfig(
        "mobilenet_v2",
        ("features.6", "features.13"),
        100,
        90,
        discriminator_hidden=32,
        score_top_k=9,
        alignment="receptive-field",
        memory_size=40,
        memory_dim=16,
    )
    return random_model(config, SIZE_HW)


@pytest.fixture(scope="session")
def small_graph(small_model: SimpleNet) -> onnx.ModelProto:
    return graph_of(small_model)


@pytest.fixture(scope="session")
def frames() -> Frames:
    return smooth_frames(6)
