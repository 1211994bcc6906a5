from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import EngineError, EngineInputError
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint
from tests.bundles import HEIGHT, THRESHOLD, WIDTH, even_frames, with_spot, write_tiny_bundle


def camera_image(frame: Frames) -> Frames:
    """The frame as a camera of ten times the resolution would see it."""
    return np.asarray(cv2.resize(frame, (WIDTH * 10, HEIGHT * 10), interpolation=cv2.INTER_NEAREST), np.uint8)


def test_a_good_part_is_ok_and_one_with_a_spot_is_ng(bundle: Bundle) -> None:
    good = even_frames(1)
    with open_engine(bundle) as engine:
        detector = Detector(engine)
        ok, ng = detector.inspect(camera_image(good[0])), detector.inspect(camera_image(with_spot(good)[0]))
    assert (ok.verdict, ng.verdict) == ("OK", "NG")
    assert ok.score < THRESHOLD < ng.score
    assert ng.threshold == THRESHOLD
    assert ng.map.shape == (HEIGHT, WIDTH)
    assert ng.map.max() == np.float32(ng.score)
    np.testing.assert_array_equal(ng.frame, with_spot(good)[0])


def test_the_score_is_the_engine_s_on_the_preprocessed_frame(bundle: Bundle) -> None:
    image = camera_image(with_spot(even_frames(1))[0])[7:, 5:]
    with open_engine(bundle) as engine:
        verdict = Detector(engine).inspect(image)
        expected = engine.predict(preprocess(image, bundle.manifest.input)[None])
    assert verdict.score == float(expected.score[0])
    np.testing.assert_array_equal(verdict.map, expected.map[0])


def test_a_batch_gives_the_same_verdicts_whatever_the_sizes_of_its_images(bundle: Bundle) -> None:
    frames = even_frames(2)
    images = [frames[0], camera_image(with_spot(frames)[1]), camera_image(frames[1])]
    with open_engine(bundle) as engine:
        detector = Detector(engine)
        together = detector.inspect_batch(images)
        alone = [detector.inspect(image) for image in images]
    assert [verdict.verdict for verdict in together] == ["OK", "NG", "OK"]
    for one, other in zip(together, alone, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-5)
        np.testing.assert_array_equal(one.frame, other.frame)
        np.testing.assert_allclose(one.map, other.map, rtol=1e-5, atol=1e-4)


def test_a_score_equal_to_the_threshold_is_ok(tmp_path: Path, bundle: Bundle) -> None:
    frame = even_frames(1)
    with open_engine(bundle) as engine:
        score = float(engine.predict(frame).score[0])
    for threshold, verdict in ((score, "OK"), (math.nextafter(score, -math.inf), "NG")):
        point = OperatingPoint(threshold, alpha=0.05, n_calibration=40, guaranteed=True)
        exact = write_tiny_bundle(tmp_path / verdict, operating_point=point)
        with open_engine(exact) as engine:
            assert Detector(engine).inspect(frame[0]).verdict == verdict


def test_times_are_positive_and_a_batch_shares_its_call(bundle: Bundle) -> None:
    service_ms = 40.0
    with open_engine(bundle, "fake") as engine:
        engine.service_time_ms = service_ms  # type: ignore[attr-defined]
        one = Detector(engine).inspect(even_frames(1)[0]).times
        four = [verdict.times for verdict in Detector(engine).inspect_batch(list(even_frames(4)))]
    assert one.infer_ms >= service_ms
    assert sum(times.infer_ms for times in four) >= service_ms
    assert four[0].infer_ms < service_ms  # a quarter of the call
    assert one.total_ms == one.preprocess_ms + one.infer_ms + one.post_ms
    assert min(one.preprocess_ms, one.post_ms) > 0


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),  # grey
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \(8, 8, 4\)"),  # with alpha
        (np.zeros((8, 8, 3), np.float32), r"float32 \(8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        ("part.png", "str"),  # a path is for sources
    ],
)
def test_what_is_no_bgr_image_is_refused(bundle: Bundle, image: Frames, found: str) -> None:
    with open_engine(bundle) as engine, pytest.raises(EngineInputError, match=found):
        Detector(engine).inspect(image)


def test_an_empty_batch_is_refused(bundle: Bundle) -> None:
    with open_engine(bundle) as engine, pytest.raises(EngineInputError, match="at least one image"):
        Detector(engine).inspect_batch([])


def test_needs_an_open_engine(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="not open"):
        Detector(open_engine(bundle)).inspect(even_frames(1)[0])


def test_the_resize_rule_of_the_bundle_is_the_camera_s(tmp_path: Path) -> None:
    spec = InputSpec(HEIGHT, WIDTH, "letterbox")
    wide = np.full((40, 400, 3), (10, 120, 200), np.uint8)
    wide[:, :40] = 255
    with open_engine(write_tiny_bundle(tmp_path / "tiny", input=spec)) as engine:
        frame = Detector(engine).inspect(wide).frame
    np.testing.assert_array_equal(frame, preprocess(wide, spec))
    assert np.all(frame[:, : WIDTH // 10] == 255)  # the aspect is kept and the edge repeated above and below
    assert np.all(frame[:, WIDTH // 10 + 1 :] == (10, 120, 200))
