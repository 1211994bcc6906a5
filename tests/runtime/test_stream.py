from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import ConfigError, EngineError, SourceError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.sinks import FrameResult, JsonlSink, Sink
from simplenet_edge.runtime.sources import FrameRecord, Source, open_source
from simplenet_edge.runtime.stream import run
from tests.bundles import even_frames


class Line(Source):
    """`count` good parts; before frame `at`, `event` happens. Frames in `dark` could not be grabbed."""

    def __init__(self, count: int, at: int = -1, event: Callable[[], object] = int, dark: tuple[int, ...] = ()) -> None:
        super().__init__("line")
        self.count, self.at, self.event, self.dark = count, at, event, dark
        self.is_open = False

    def _open(self) -> None:
        self.is_open = True

    def _close(self) -> None:
        self.is_open = False

    def __iter__(self) -> Iterator[FrameRecord]:
        assert self.is_open
        for i in range(self.count):
            if i == self.at:
                self.event()
            now = datetime.now(timezone.utc)
            if i in self.dark:
                yield FrameRecord(i, f"frame-{i}", now, None, "the frame is dark")
            else:
                yield FrameRecord(i, f"frame-{i}", now, even_frames(1, seed=i)[0])


class Kept(Sink):
    """Keeps every result."""

    def __init__(self) -> None:
        self.results: list[FrameResult] = []
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def write(self, result: FrameResult) -> None:
        assert self.is_open
        self.results.append(result)

    def close(self) -> None:
        self.is_open = False


def raise_(error: BaseException) -> Callable[[], object]:
    def event() -> None:
        raise error

    return event


def test_a_folder_from_images_to_json_lines(parts: Path, bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "results" / "line.jsonl"
    with open_engine(bundle) as engine:
        summary = run(open_source(str(parts)), Detector(engine), [JsonlSink(lines)])
    assert (summary.ok, summary.ng, summary.invalid, summary.frames) == (3, 1, 1, 5)
    assert not summary.interrupted
    assert summary.to_dict()["frames"] == 5
    found = {line["name"]: line["verdict"] for line in map(json.loads, lines.read_text().splitlines())}
    assert found == {
        "late/part10.png": "OK", "part1.png": "OK", "part2.png": "OK", "part3.png": "NG", "part4.jpg": "INVALID"
    }  # fmt: skip


def test_real_images(shared: Path, bundle: Bundle) -> None:
    kept = Kept()
    folder = shared / "data/magnetic_tile/test/blowhole"
    with open_engine(bundle) as engine:
        summary = run(open_source(str(folder)), Detector(engine), [kept])
    assert summary.frames == len(list(folder.iterdir())) == len(kept.results)
    assert summary.invalid == 0
    assert len({result.inspection.score for result in kept.results if result.inspection}) > 1


def test_without_sinks_an_invalid_frame_is_still_logged(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with open_engine(bundle, "fake") as engine, caplog.at_level(logging.WARNING):
        summary = run(Line(3, dark=(1,)), Detector(engine))
    assert (summary.ok, summary.invalid) == (2, 1)
    assert caplog.messages == ["frame-1 is INVALID: the frame is dark"]


def test_one_failure_of_the_engine_is_one_invalid_frame(bundle: Bundle) -> None:
    kept = Kept()
    with FakeEngine(bundle, fail_on=(1, 3)) as engine:
        summary = run(Line(5), Detector(engine), [kept], max_failures=2)
    assert [result.verdict for result in kept.results] == ["OK", "INVALID", "OK", "INVALID", "OK"]
    assert "fails on call 1" in (kept.results[1].reason or "")
    assert (summary.ok, summary.ng, summary.invalid) == (3, 0, 2)


@pytest.mark.parametrize("dark", [(), (2,)])  # a frame without an image between them proves nothing about the engine
def test_failures_in_a_row_end_the_run_with_everything_written(bundle: Bundle, dark: tuple[int, ...]) -> None:
    kept, line = Kept(), Line(10, dark=dark)
    with (
        FakeEngine(bundle, fail_on=range(1, 10)) as engine,
        pytest.raises(EngineError, match="3 frames in a row failed"),
    ):
        run(line, Detector(engine), [kept], max_failures=3)
    assert [result.verdict for result in kept.results] == ["OK"] + ["INVALID"] * (3 + len(dark))
    assert not kept.is_open
    assert not line.is_open


def test_frames_without_images_never_end_the_run(bundle: Bundle) -> None:
    with FakeEngine(bundle) as engine:
        summary = run(Line(6, dark=tuple(range(6))), Detector(engine), max_failures=1)
    assert (summary.ok, summary.invalid) == (0, 6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_frame_at_hand(bundle: Bundle, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    kept, line = Kept(), Line(100, at=2, event=lambda: os.kill(os.getpid(), number))
    with open_engine(bundle, "fake") as engine:
        summary = run(line, Detector(engine), [kept])
        assert summary.interrupted
        assert summary.ok == len(kept.results) == 3
        engine.predict(even_frames(1))  # the engine belongs to the caller and is still open
    assert not kept.is_open
    assert not line.is_open
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_it_at_once(bundle: Bundle) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    kept = Kept()
    with open_engine(bundle, "fake") as engine:
        summary = run(Line(100, at=2, event=twice), Detector(engine), [kept])
    assert summary.interrupted
    assert summary.ok == len(kept.results) == 2
    assert not kept.is_open


def test_runs_in_a_thread_where_signals_can_not_be_caught(bundle: Bundle) -> None:
    summaries = []
    with open_engine(bundle, "fake") as engine:
        thread = threading.Thread(target=lambda: summaries.append(run(Line(4), Detector(engine))))
        thread.start()
        thread.join()
    assert summaries[0].ok == 4


@pytest.mark.parametrize("error", [SourceError("the cable is out"), ZeroDivisionError("a bug")])
def test_an_error_of_the_source_leaves_everything_closed(bundle: Bundle, error: Exception) -> None:
    kept, line = Kept(), Line(5, at=2, event=raise_(error))
    with open_engine(bundle, "fake") as engine, pytest.raises(type(error), match=str(error)):
        run(line, Detector(engine), [kept])
    assert len(kept.results) == 2
    assert not kept.is_open
    assert not line.is_open


def test_a_source_that_does_not_open_leaves_no_file(bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "line.jsonl"
    (tmp_path / "empty").mkdir()
    with open_engine(bundle, "fake") as engine, pytest.raises(SourceError, match="no images"):
        run(open_source(str(tmp_path / "empty")), Detector(engine), [JsonlSink(lines)])
    assert not lines.exists()


def test_verdicts_are_the_detector_s(bundle: Bundle) -> None:
    kept = Kept()
    with open_engine(bundle) as engine:
        detector = Detector(engine)
        run(Line(4), detector, [kept])
        for i, result in enumerate(kept.results):
            assert result.inspection is not None
            expected = detector.inspect(even_frames(1, seed=i)[0])
            assert result.inspection.score == expected.score
            np.testing.assert_array_equal(result.inspection.map, expected.map)


def test_at_least_one_failure_is_allowed_for(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine, pytest.raises(ConfigError, match="max_failures"):
        run(Line(1), Detector(engine), max_failures=0)
