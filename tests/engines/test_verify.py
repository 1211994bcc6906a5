from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle, write_bundle
from simplenet_edge.comparison import FP32_TOLERANCE
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import BundleError, ConfigError, EngineError, ParityError
from simplenet_edge.spec import OperatingPoint
from tests.bundles import even_frames, tiny_files, tiny_manifest, tiny_record


def golden_map(bundle: Bundle) -> np.ndarray:
    return bundle.golden()[1].map.copy()


def point(threshold: float) -> OperatingPoint:
    return OperatingPoint(threshold, alpha=0.05, n_calibration=40, guaranteed=True)


def test_the_engine_that_made_the_numbers_passes(bundle: Bundle) -> None:
    with open_engine(bundle) as engine:
        result = verify(engine)
    assert result.passed
    assert result.require() is result
    assert (result.engine, result.provider, result.precision) == ("onnxruntime", "CPUExecutionProvider", "fp32")
    assert result.scale == pytest.approx(float(np.ptp(golden_map(bundle))))
    assert len(result.frames) == len(bundle.golden()[0])
    assert [frame.found_score for frame in result.frames] == pytest.approx(bundle.golden()[1].score.tolist())
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["passed"] is True


@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (2.0, False)])
def test_one_pixel_off_is_measured_against_the_scale(
    tmp_path: Path, bundle: Bundle, share: float, passes: bool
) -> None:
    maps = golden_map(bundle)
    offset = share * FP32_TOLERANCE * float(np.ptp(maps))
    maps[1, 5, 6] += offset
    changed = write_bundle(tmp_path / "bundle", tiny_manifest(), tiny_files(map=maps))
    with open_engine(changed) as engine:
        result = verify(engine)
    assert result.passed is passes
    assert result.max_map_difference == pytest.approx(offset, rel=1e-3)
    assert result.max_relative_map_difference == pytest.approx(share * FP32_TOLERANCE, rel=1e-3)
    assert result.max_score_difference == 0
    assert result.frames[1].map_difference == result.max_map_difference


def test_a_score_off_fails_and_the_error_says_what_to_do(tmp_path: Path, bundle: Bundle) -> None:
    score = bundle.golden()[1].score + np.float32(1)
    changed = write_bundle(tmp_path / "bundle", tiny_manifest(), tiny_files(score=score))
    with open_engine(changed) as engine:
        result = verify(engine)
        assert not result.passed
        with pytest.raises(
            ParityError, match=r"expected at most 1\.0e-04 of the scale .* found 5\.3e-03 and 0 flipped"
        ):
            result.require()
        assert verify(engine, tolerance=0.01).passed


def test_another_model_fails_with_flips(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine:
        result = verify(engine)
    assert not result.passed
    assert result.max_relative_map_difference > 0.1


def test_a_flipped_verdict_fails_whatever_the_tolerance(tmp_path: Path, bundle: Bundle) -> None:
    score = bundle.golden()[1].score.copy()  # 14.9, 13.3, 12.9, 189.6
    score[0] = 40
    changed = write_bundle(tmp_path / "bundle", tiny_manifest(operating_point=point(30.0)), tiny_files(score=score))
    with open_engine(changed) as engine:
        result = verify(engine, tolerance=0.2)
    assert result.max_relative_score_difference < 0.2
    assert [frame.flipped for frame in result.frames] == [True, False, False, False]
    assert (result.flips, result.passed) == (1, False)
    with pytest.raises(ParityError, match="1 flipped of 4"):
        result.require()


def test_a_threshold_that_is_a_golden_score_is_no_flip(tmp_path: Path, bundle: Bundle) -> None:
    score = bundle.golden()[1].score.copy()
    threshold = float(score[0])
    score[0] = np.nextafter(score[0], np.float32(np.inf))  # rounding on another machine
    changed = write_bundle(
        tmp_path / "bundle", tiny_manifest(operating_point=point(threshold)), tiny_files(score=score)
    )
    with open_engine(changed) as engine:
        assert verify(engine).require().flips == 0


def test_flat_maps_have_a_scale_too(tmp_path: Path, bundle: Bundle) -> None:
    count = len(bundle.golden()[0])
    for level, scale in ((3.0, 3.0), (0.0, 1.0)):
        flat = np.full(golden_map(bundle).shape, level, np.float32)
        changed = write_bundle(tmp_path / str(level), tiny_manifest(), tiny_files(map=flat))
        with open_engine(changed) as engine:
            result = verify(engine)
        assert result.scale == scale
        assert len(result.frames) == count


def test_golden_frames_that_do_not_fit_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    score = bundle.golden()[1].score
    changed = write_bundle(tmp_path / "bundle", tiny_manifest(), tiny_files(score=score[:2]))
    with open_engine(changed) as engine, pytest.raises(BundleError, match="export again"):
        verify(engine)
    files = tiny_files()
    empty = write_bundle(tmp_path / "empty", tiny_manifest(), {"model.fp32.onnx": files["model.fp32.onnx"]})
    with open_engine(empty) as engine, pytest.raises(BundleError, match=r"no golden/frames\.npy"):
        verify(engine)


def test_a_closed_engine_and_options_that_cannot_work(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="not open"):
        verify(open_engine(bundle))
    for tolerance in (-1.0, float("nan")):
        with open_engine(bundle) as engine, pytest.raises(ConfigError, match="tolerance"):
            verify(engine, tolerance=tolerance)
    half = write_bundle(
        tmp_path / "half",
        tiny_manifest(precisions={"fp32": tiny_record(), "fp16": tiny_record(graph="model.fp16.onnx", tolerance=0.02)}),
        {**tiny_files(), "model.fp16.onnx": tiny_files()["model.fp32.onnx"]},
    )
    with open_engine(half, precision="fp16") as engine:
        result = verify(engine)
        assert (result.precision, result.tolerance) == ("fp16", 0.02)  # the bundle says how far fp16 may be off
        assert verify(engine, tolerance=1e-3).tolerance == 1e-3
        assert engine.predict(even_frames(1)).score.shape == (1,)
