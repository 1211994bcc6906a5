"""A bundle whose graph takes whole camera frames: the same verdicts, without a resize on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from simplenet_edge.bundle import Bundle, golden_files, write_bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import EngineInputError
from simplenet_edge.export.frame_resize import with_frame_resize
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.runtime.detector import Detector
from tests.bundles import HEIGHT, WIDTH, even_frames, predict, tiny_graph, tiny_manifest, with_spot

CAMERA_HW = (3 * HEIGHT, 2 * WIDTH)


def camera_images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Parts with a spot, each pixel of the model repeated in blocks."""
    return with_spot(even_frames(count)).repeat(3, axis=1).repeat(2, axis=2)


@pytest.fixture
def camera_bundle(tmp_path: Path) -> Bundle:
    manifest = tiny_manifest(frame_hw=CAMERA_HW)
    graph = with_frame_resize(onnx.load_from_string(tiny_graph()), CAMERA_HW, manifest.input).SerializeToString()
    images = camera_images(2)
    golden = golden_files(images, predict(graph, images))
    return write_bundle(tmp_path / "camera", manifest, {"model.fp32.onnx": graph, **golden})


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_verdict_is_that_of_the_resized_frame(camera_bundle: Bundle, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    image = camera_images(1)[0]
    with open_engine(camera_bundle, engine) as opened:
        assert (opened.frame_hw, opened.map_hw) == (CAMERA_HW, (HEIGHT, WIDTH))
        verify(opened).require()
        verdict = Detector(opened).inspect(image)
    frame = preprocess(image, camera_bundle.manifest.input)
    assert verdict.score == pytest.approx(float(predict(tiny_graph(), frame[np.newaxis]).score[0]), rel=1e-5)
    assert verdict.verdict == "NG"
    assert verdict.map.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(verdict.frame, image)
    np.testing.assert_array_equal(verdict.model_frame, frame)


def test_the_fake_engine_takes_camera_frames_too(camera_bundle: Bundle) -> None:
    with open_engine(camera_bundle, "fake") as opened:
        assert opened.predict(camera_images(2)).map.shape == (2, HEIGHT, WIDTH)


def test_a_camera_of_another_size_is_refused(camera_bundle: Bundle) -> None:
    with open_engine(camera_bundle, "onnxruntime") as opened, pytest.raises(EngineInputError, match="96x96 pixels"):
        Detector(opened).inspect(camera_images(1)[0][:-1])
