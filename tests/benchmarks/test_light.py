from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from light import CHANGES, brighter, first_alarm, gamma, gradient, rotated, shifted, shuffled, summary

from simplenet_edge.runtime.drift.drift_monitor import DriftMonitor
from simplenet_edge.spec import Frames, OperatingPoint, ScoreStatistics


def monitor() -> DriftMonitor:
    point = OperatingPoint(threshold=0.8, alpha=0.01, n_calibration=200, guaranteed=True)
    return DriftMonitor(point, ScoreStatistics(n=200, mean=0.5, std=0.1, min=0.2, median=0.5, max=0.8))


@pytest.fixture
def image() -> Frames:
    return np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_keep_the_shape_and_only_one_keeps_the_image(name: str, image: Frames) -> None:
    before = image.copy()
    changed = CHANGES[name](image)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.array_equal(changed, image) == (name == "unchanged")
    assert np.array_equal(image, before)


def test_light() -> None:
    grey = np.full((4, 101, 3), 200, np.uint8)
    assert set(brighter(grey, 0.7).flat) == {140}
    assert set(brighter(grey, 1.3).flat) == {255}  # not 4, which 260 is in 8 bits
    assert set(gamma(grey, 0.8).flat) == {round(255 * (200 / 255) ** 0.8)}
    assert gamma(np.array([[[0, 255, 128]]], np.uint8), 1.25).tolist() == [[[0, 255, 108]]]
    assert gradient(grey, 0.15)[2, [0, 50, 100], 1].tolist() == [170, 200, 230]


def test_place(image: Frames) -> None:
    moved = shifted(image, 0.02)  # by 2 columns and a row
    np.testing.assert_array_equal(moved[1:, 2:], image[:-1, :-2])
    np.testing.assert_array_equal(moved[1:, :2], image[:-1, 1::-1])
    np.testing.assert_array_equal(moved[0, 2:], image[0, :-2])
    odd = image[:, :99][:49]
    np.testing.assert_array_equal(rotated(odd, 180), odd[::-1, ::-1])  # about the middle


def test_a_stream_shows_every_frame_once_each_time_round() -> None:
    frames, scores = np.zeros((5, 2, 2, 3), np.uint8), np.arange(5, dtype=np.float32)
    seen = [score for _, score in itertools.islice(shuffled(frames, scores, seed=0), 10)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    assert seen[:5] != seen[5:]


def _stream(image: Frames, brightness: float, score: float) -> Iterator[tuple[Frames, float]]:
    rng = np.random.default_rng(0)
    while True:
        yield brighter(image, brightness * rng.uniform(0.99, 1.01)), float(rng.normal(score, 0.1))


def test_the_first_alarm(image: Frames) -> None:
    as_it_was = _stream(image, 0.7, 0.5)
    assert first_alarm(monitor(), _stream(image, 0.7, 0.5), as_it_was, 300) is None
    darker = first_alarm(monitor(), _stream(image, 0.5, 0.5), as_it_was, 300)
    assert darker is not None
    assert darker["kind"] == "view"
    assert 1 <= darker["frames"] < 30
    # installed in that light, the view is what it always was, and only scores can tell
    assert first_alarm(monitor(), _stream(image, 0.5, 0.5), None, 300) is None
    worse = first_alarm(monitor(), _stream(image, 0.5, 1.5), None, 300)
    assert worse is not None
    assert worse["kind"] == "rejects"


def test_summary() -> None:
    alarm = {"frames": 12, "kind": "view", "text": ""}
    row = {"set": "solar", "variant": "default", "change": "gamma 0.8", "recall": 0.5, "false_reject_rate": 0.25}
    rows = [{**row, "image_auroc": auroc, "alarm": {"installed": None, "later": alarm}} for auroc in (0.8, 0.9)]
    (line,) = summary(rows).splitlines()[2:]
    assert line.startswith("| solar | default | gamma 0.8 | 0.850 ± 0.071 | 0.250 ± 0.000 |")
    assert line.endswith("| none, none | view after 12, view after 12 |")
