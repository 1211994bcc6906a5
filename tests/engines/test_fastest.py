"""What `auto` takes beside a line on a CPU: the fastest, and never one whose numbers are not the bundle's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle, golden_files, write_bundle
from simplenet_edge.engines import Engine, fastest, selection
from simplenet_edge.engines.fastest import choose_fastest
from simplenet_edge.engines.openvino import OpenVinoEngine
from simplenet_edge.errors import EngineUnavailable, ParityError
from simplenet_edge.spec import Frames, Prediction
from tests.bundles import tiny_files, tiny_manifest

TIMES_MS = {
    ("onnxruntime", 8): 12.0,
    ("openvino", 8): 5.0,
    ("onnxruntime", 4): 6.0,
    ("openvino", 4): 4.0,
    ("onnxruntime", 1): 5.6,
    ("openvino", 1): 9.0,
}


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "driver_problem", lambda: "no NVIDIA driver")
    monkeypatch.setattr(fastest, "physical_cores", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def measured(engine: Engine, frames: Frames, seconds: float) -> float:
    assert engine.predict(frames[:1]).score.shape == (1,)
    assert seconds == pytest.approx(1 / len(TIMES_MS))
    assert engine.threads is not None
    return TIMES_MS[engine.name, engine.threads]


def test_the_fastest_is_taken_and_all_are_named(bundle: Bundle) -> None:
    choice = choose_fastest(bundle, measure=measured)
    assert (choice.name, choice.threads) == ("openvino", 4)
    assert choice.reason.startswith("4.0 ms per golden frame with --threads 4, the fastest here (")
    assert "onnxruntime with 8 threads 12.0 ms" in choice.reason
    assert "openvino with 1 thread 9.0 ms" in choice.reason


def test_an_engine_with_other_numbers_is_never_taken(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    right = OpenVinoEngine._predict

    def wrong(self: OpenVinoEngine, frames: Frames) -> Prediction:
        found = right(self, frames)
        return Prediction(found.score, found.map + np.float32(0.01 * np.ptp(found.map)))

    monkeypatch.setattr(OpenVinoEngine, "_predict", wrong)
    choice = choose_fastest(bundle, measure=measured)
    assert (choice.name, choice.threads) == ("onnxruntime", 1)
    assert "openvino with 4 threads refused: the openvino engine" in choice.reason


def test_one_that_does_not_start_is_passed_over(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(self: OpenVinoEngine) -> None:
        raise EngineUnavailable("openvino does not load")

    monkeypatch.setattr(OpenVinoEngine, "_open", unavailable)
    choice = choose_fastest(bundle, measure=measured)
    assert (choice.name, choice.threads) == ("onnxruntime", 1)
    assert "openvino with 8 threads refused: openvino does not load" in choice.reason


def test_where_none_gives_the_numbers_the_line_does_not_start(tmp_path: Path) -> None:
    files = tiny_files()
    bundle = write_bundle(tmp_path / "right", tiny_manifest(), files)
    frames, golden = bundle.golden()
    drifted = golden_files(frames, Prediction(golden.score + 1, golden.map))
    with pytest.raises(ParityError, match="the onnxruntime engine"):
        choose_fastest(write_bundle(tmp_path / "wrong", tiny_manifest(), {**files, **drifted}), measure=measured)


def test_when_patience_ends_the_rest_is_not_tried(bundle: Bundle) -> None:
    ticks = iter([0.0, 3.0, 6.0])  # the start, and before each candidate but the first
    choice = choose_fastest(bundle, measure=measured, clock=lambda: next(ticks))
    assert (choice.name, choice.threads) == ("openvino", 8)
    assert "onnxruntime with 8 threads 12.0 ms" in choice.reason
    assert "openvino with 4 threads not tried" in choice.reason
    assert "openvino with 1 thread not tried" in choice.reason


def test_a_gpu_is_taken_without_measuring(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "engine_problem", lambda name: None)
    assert choose_fastest(bundle, measure=measured) == selection.choose_engine("auto")


def test_it_measures_by_itself(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "physical_cores", lambda: 1)
    choice = choose_fastest(bundle)
    assert choice.name in ("onnxruntime", "openvino")
    assert choice.threads == 1
