from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.runtime.drift.drift_monitor import DriftAlarm, DriftConfig, DriftMonitor
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, ScoreStatistics
from simplenet_edge.synthetic.flange import render_part

SIZE = 128
CONFIG = DriftConfig(learn_frames=100)
STATISTICS = ScoreStatistics(n=200, mean=0.5, std=0.1, min=0.2, median=0.5, max=0.8)
POINT = OperatingPoint(threshold=0.8, alpha=0.01, n_calibration=200, guaranteed=True)

Change = Callable[[Frames], Frames]


class Line:
    """A watch with frames in random order from a set of pictures of good parts, ten a second."""

    def __init__(self, pictures: Frames, config: DriftConfig = CONFIG, live: bool = True, learned: bool = True) -> None:
        self.watch = DriftMonitor(POINT, STATISTICS, config, live)
        self.pictures = pictures
        self.rng = np.random.default_rng(0)
        self.now_s, self.frame_id = 1000.0, 0
        if learned:
            assert self.run(config.learn_frames * config.every) == []
            assert self.watch.learning is None

    def run(
        self, frames: int, change: Change | None = None, score: float = 0.5, spread: float = 0.1, step_s: float = 0.1
    ) -> list[DriftAlarm]:
        """The alarms that stand after so many frames."""
        for _ in range(frames):
            frame = self.pictures[self.rng.integers(len(self.pictures))]
            self.now_s += step_s * self.rng.uniform(0.95, 1.05)
            frame = change(frame) if change else frame
            self.watch.observe(frame, self.rng.normal(score, spread), self.now_s, self.frame_id)
            self.frame_id += 1
        return self.watch.alarms()

    def kinds(self, frames: int, **options: object) -> list[str]:
        return [alarm.kind for alarm in self.run(frames, **options)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def flanges() -> Frames:
    return np.stack([render_part(np.random.default_rng((7, i)), SIZE) for i in range(60)])


@pytest.fixture
def line(flanges: Frames) -> Line:
    return Line(flanges)


def gain(factor: float) -> Change:
    return lambda frame: np.clip(frame * factor, 0, 255).astype(np.uint8)


def moved(dx: float, dy: float) -> Change:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return lambda frame: cv2.warpAffine(frame, matrix, frame.shape[1::-1], borderMode=cv2.BORDER_REFLECT)  # type: ignore[return-value]


def blurred(sigma: float) -> Change:
    return lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma)  # type: ignore[return-value]


def test_a_line_as_it_was_gives_no_alarm(line: Line) -> None:
    for _ in range(3000):
        assert line.run(1) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (gain(1.2), "brightness"),
        (gain(0.8), "brightness"),
        (gain(0), "brightness"),  # a lens cap
        (blurred(1.2), "focus"),
        (moved(8, 3), "picture"),
        (lambda frame: cv2.convertScaleAbs(frame, alpha=0.5, beta=36), "contrast"),  # haze
    ],
    ids=["lighter", "darker", "black", "blurred", "moved", "hazy"],
)
def test_a_change_of_the_view_is_the_cameras_and_ends_with_it(line: Line, change: Change, word: str) -> None:
    (alarm,) = line.run(25, change, score=1.5)  # the scores rise with it, which is no news of the parts
    assert alarm.kind == "view"
    assert alarm.text.startswith("camera moved or light changed: ")
    assert word in alarm.text
    assert line.kinds(20) == ["view"]  # not back for long enough
    kinds = {kind for _ in range(200) for kind in line.kinds(1)}
    assert kinds == {"view"}
    assert line.run(1) == []


@pytest.mark.parametrize("change", [gain(1.2), blurred(1.2), moved(8, 3)], ids=["lighter", "blurred", "moved"])
def test_scores_never_speak_first_of_what_the_view_explains(line: Line, change: Change) -> None:
    kinds = [kind for _ in range(40) for kind in line.kinds(1, change=change, score=1.5)]
    assert set(kinds) == {"view"}


@pytest.mark.parametrize("change", [gain(1.005), gain(0.995), blurred(0.25)], ids=["lighter", "darker", "blurred"])
def test_a_trifle_is_no_alarm(line: Line, change: Change) -> None:
    assert line.run(1500, change) == []


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"score": 1.0}, "rejects", "more parts are rejected than promised: "),
        ({"score": 0.65, "spread": 0.02}, "scores", "above the median of the good calibration scores (0.5)"),
        ({"score": 0.35, "spread": 0.02}, "scores", "below the median of the good calibration scores (0.5)"),
    ],
    ids=["all bad", "worse but passing", "lower than any good part's"],
)
def test_bad_parts_are_the_parts_and_end_with_them(line: Line, options: dict[str, float], kind: str, text: str) -> None:
    frames = 0
    while not line.run(1, **options) and frames < 200:  # type: ignore[arg-type]
        frames += 1
    (alarm,) = line.run(10, **options)  # type: ignore[arg-type]
    assert alarm.kind == kind
    assert text in alarm.text
    assert line.run(300) == []


def test_the_scrap_of_an_ordinary_line_is_no_alarm(line: Line) -> None:
    for _ in range(2000):
        bad = line.rng.random() < 0.05
        assert line.run(1, score=1.5 if bad else 0.5) == []


def test_frames_that_come_half_as_often(line: Line) -> None:
    (alarm,) = line.run(25, step_s=0.2)
    assert alarm.kind == "rate"
    now, normal = (float(word) for word in alarm.text.split() if word[0].isdigit())
    assert (now, normal) == pytest.approx((5, 10), rel=0.03)
    assert line.run(150) == []
    assert line.run(150, step_s=0.05) == []  # faster is no fault
    line.now_s += 3600  # nor is a break
    assert line.run(1) == []


def test_the_rate_of_a_folder_is_nobodys_business(flanges: Frames) -> None:
    assert Line(flanges, live=False).run(50, step_s=1.0) == []


def test_while_it_learns_only_scores_are_judged_and_it_says_so(flanges: Frames) -> None:
    line = Line(flanges, learned=False)
    (alarm,) = line.run(60, gain(1.2), score=1.0)
    assert alarm.kind == "rejects"
    assert "still being learned" in alarm.text
    assert line.watch.learning == (60, 100)
    snapshot = json.loads(json.dumps(line.watch.snapshot(), allow_nan=False))
    assert (snapshot["learning"], snapshot["values"]) == ([60, 100], {})
    assert snapshot["rejects"]["parts"] == 60


def test_relearn_takes_the_new_view_for_normal(line: Line) -> None:
    assert line.kinds(30, change=gain(1.2)) == ["view"]
    line.watch.relearn()
    assert line.watch.learning == (0, 100)
    assert line.run(100, gain(1.2)) == []
    assert line.watch.learning is None
    assert line.run(50, gain(1.2)) == []
    assert line.kinds(30) == ["view"]


def test_another_models_scores_are_held_against_its_own_threshold_and_statistics(line: Line) -> None:
    assert line.kinds(60, score=5.0) == ["rejects"]
    line.watch.judge_by(
        dataclasses.replace(POINT, threshold=5.3),
        ScoreStatistics(n=200, mean=5.0, std=0.1, min=4.7, median=5.0, max=5.3),
    )
    assert line.run(100, score=5.0) == []
    assert line.kinds(30, change=gain(1.2)) == ["view"]  # which it has not forgotten


def test_of_the_frames_of_one_part_the_first_is_judged() -> None:
    watch = DriftMonitor(POINT, STATISTICS)
    frame = np.full((16, 16, 3), 90, np.uint8)
    for i in range(40):  # eight frames each of five parts, every one NG
        assert watch.observe(frame, 1.0, 0.1 * i, i, f"part {i // 8}") == []
    assert watch.snapshot()["rejects"]["parts"] == 5
    assert not watch.false_reject(1)
    assert watch.false_reject(8)


def test_false_rejects_that_are_marked_are_an_alarm_and_a_promise_can_be_stated() -> None:
    """Half the marks of the others: 4 % of the parts are NG, which the allowance for bad ones covers."""
    frame, rng = np.full((16, 16, 3), 90, np.uint8), np.random.default_rng(0)
    marked = DriftMonitor(POINT, STATISTICS, DriftConfig(false_rejects=0.01))
    unmarked = DriftMonitor(POINT, STATISTICS, DriftConfig(false_rejects=0.01))
    vouched = DriftMonitor(POINT, STATISTICS)  # at most 4.6 % by 200 calibration images
    for i in range(3000):
        score = 1.0 if rng.random() < 0.04 else rng.uniform(0.3, 0.7)
        for watch in (marked, unmarked, vouched):
            watch.observe(frame, score, 0.0, i)
        if score == 1.0 and rng.random() < 0.9:
            assert marked.false_reject(i)
            assert vouched.false_reject(i)
    assert [watch.alarms() != [] for watch in (marked, unmarked, vouched)] == [True, False, False]
    (alarm,) = marked.alarms()
    assert alarm.kind == "rejects"
    assert "at most 1% were promised; teach or train the model with them" in alarm.text


def test_marks_of_frames_under_another_view_do_not_count(line: Line) -> None:
    line.run(1, score=1.5)
    assert line.kinds(40, change=gain(1.2)) == ["view"]
    assert not line.watch.false_reject(line.frame_id - 41)


def test_one_frame_of_every_is_looked_at(flanges: Frames) -> None:
    line = Line(flanges, DriftConfig(learn_frames=60, every=3))
    assert line.run(6, gain(1.5)) == []
    assert line.kinds(60, change=gain(1.5)) == ["view"]


def test_the_snapshot_is_plain_json(line: Line) -> None:
    line.run(5)
    values = json.loads(json.dumps(line.watch.snapshot(), allow_nan=False))
    assert values["learning"] is None
    assert set(values["values"]) == {"brightness", "contrast", "focus", "picture", "interval"}
    brightness = values["values"]["brightness"]
    assert brightness["normal"][0] < brightness["now"] < brightness["normal"][1]
    assert abs(brightness["alike"]) < 0.3


def test_a_picture_that_never_changes_can_be_learned(flanges: Frames) -> None:
    """No spread at all, such as of a drawn test picture, divides by nothing."""
    for picture in (flanges[:1], np.zeros((1, 16, 40, 3), np.uint8)):
        line = Line(picture)
        assert line.run(100) == []
        json.dumps(line.watch.snapshot(), allow_nan=False)


def test_large_frames_are_thinned_out(flanges: Frames) -> None:
    large = np.stack([cv2.resize(frame, (900, 700)) for frame in flanges[:20]])
    line = Line(large, DriftConfig(learn_frames=50))
    assert line.kinds(30, change=blurred(4)) == ["view"]


@pytest.mark.parametrize("n", [1, 3, 12])
def test_few_calibration_images_make_it_slow_not_wrong(n: int) -> None:
    point = OperatingPoint(threshold=0.8, alpha=0.01, n_calibration=n, guaranteed=False)
    watch = DriftMonitor(point, ScoreStatistics(n=n, mean=0.5, std=0.1, min=0.2, median=0.5, max=0.8))
    frame, rng = np.full((16, 16, 3), 90, np.uint8), np.random.default_rng(0)
    for i in range(500):  # the share above the highest of n is 1 / (n + 1) on average
        assert watch.observe(frame, 0.9 if rng.random() < 1 / (n + 1) else rng.normal(0.5, 0.1), 0.0, i) == []


def test_on_real_tiles(shared: Path) -> None:
    """Tiles differ far more than drawn parts: a change of the light by a half and a blur are seen."""
    files = sorted((shared / "data/magnetic_tile/train/good").iterdir())[:240]
    tiles = np.stack([preprocess(read_image(file), InputSpec(SIZE, SIZE)) for file in files])

    def line_of_tiles() -> Line:
        return Line(tiles, DriftConfig(learn_frames=150))

    assert line_of_tiles().run(1500) == []
    for change in (gain(1.5), blurred(2)):
        line = line_of_tiles()
        assert line.kinds(150, change=change, score=1.5) == ["view"]
        assert line.run(300) == []
    assert line_of_tiles().kinds(60, score=1.0) == ["rejects"]


@pytest.mark.parametrize(
    "options",
    [
        {"learn_frames": 49},
        {"every": 0},
        {"frames_per_false_alarm": 99},
        {"brightness_change": 0.0},
        {"brightness_change": float("nan")},
        {"bad_share": 1.0},
        {"false_rejects": 0.0},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        DriftConfig(**options)  # type: ignore[arg-type]
