"""The resize inside the graph against the one on the CPU, `simplenet_edge.imaging.preprocess`."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.frame_resize import with_frame_resize
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.spec import Frames, InputSpec, SimpleNetConfig
from tests.models import random_model

pytestmark = pytest.mark.slow

SPECS = (InputSpec(64, 96), InputSpec(64, 96, "letterbox"), InputSpec(64, 64, "center-crop", 72))


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def resized(image: Frames, spec: InputSpec) -> Frames:
    """The image through the nodes of the graph, and nothing else."""
    shape = ["batch", spec.height, spec.width, 3]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["frames"], ["levels"], to=TensorProto.FLOAT)],
        "cast",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("levels", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    whole = with_frame_resize(model, (image.shape[0], image.shape[1]), spec)
    levels: Frames = session_of(whole).run(None, {"frames": image[np.newaxis]})[0][0].astype(np.uint8)
    return levels


@settings(max_examples=60)
@given(height=st.integers(20, 300), width=st.integers(20, 300), spec=st.sampled_from(SPECS), seed=st.integers(0, 10**6))
def test_is_preprocess_to_one_grey_level(height: int, width: int, spec: InputSpec, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    difference = np.abs(resized(image, spec).astype(int) - preprocess(image, spec))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.2


@pytest.mark.parametrize("spec", SPECS)
def test_shrinking_a_camera_frame_differs_in_less_than_one_pixel_of_a_hundred(
    spec: InputSpec, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (270, 480, 3), dtype=np.uint8)
    assert (resized(image, spec) != preprocess(image, spec)).mean() < 0.01


def test_the_whole_graph_takes_camera_frames(rng: np.random.Generator) -> None:
    model = random_model(SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32, discriminator_hidden=16))
    graph = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)
    before = graph.SerializeToString()
    session = session_of(with_frame_resize(graph, (270, 480), model.input_spec))
    assert graph.SerializeToString() == before
    assert [value.shape for value in session.get_inputs()] == [["batch", 270, 480, 3]]
    images = rng.integers(0, 256, (2, 270, 480, 3), dtype=np.uint8)
    score, maps = session.run(["score", "map"], {"frames": images})
    frames = np.stack([resized(image, model.input_spec) for image in images])  # the same grey levels
    expected = model.predict(frames)
    assert np.abs(maps - expected.map).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(score - expected.score).max() < 1e-4 * np.ptp(expected.map)
