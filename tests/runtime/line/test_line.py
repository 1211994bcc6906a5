from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import ConfigError, EngineError, SinkError, SourceError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.runtime.line.line import Line, LineConfig, LineTimings, Summary, run
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks import JsonlSink
from simplenet_edge.runtime.sinks.worker import WorkerTimings
from simplenet_edge.runtime.sources import View, open_source
from tests.bundles import HEIGHT, WIDTH, even_frames
from tests.runtime.belts import Belt, Kept, LiveBelt
from tests.waiting import SOON_S


def raise_(error: BaseException) -> Callable[[], object]:
    def event() -> None:
        raise error

    return event


@contextmanager
def running(line: Line) -> Iterator[list[Summary]]:
    """The line in a thread; stopped and joined at the end, when the list holds its summary."""
    summaries: list[Summary] = []
    thread = threading.Thread(target=lambda: summaries.append(line.run()))
    thread.start()
    try:
        yield summaries
    finally:
        line.stop()
        thread.join(SOON_S)
    assert not thread.is_alive()


def test_a_folder_from_images_to_json_lines(parts: Path, bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "results" / "line.jsonl"
    with open_engine(bundle) as engine:
        summary = run(open_source(str(parts)), Detector(engine), [JsonlSink(lines)])
    assert (summary.ok, summary.ng, summary.invalid, summary.frames) == (3, 1, 1, 5)
    assert (summary.dropped, summary.lost, summary.interrupted) == (0, 0, False)
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
    assert len({result.detection.score for result in kept.results if result.detection}) > 1


def test_verdicts_are_the_detector_s_in_order(bundle: Bundle) -> None:
    kept = Kept()
    with open_engine(bundle) as engine:
        detector = Detector(engine)
        run(Belt(20, bad=(3, 4, 17)), detector, [kept])
        for i, result in enumerate(kept.results):
            assert result.record.frame_id == i
            assert result.record.camera == "belt"
            assert result.detection is not None
            expected = detector.inspect(Belt(20, bad=(3, 4, 17)).image(i))
            assert (result.verdict, result.detection.score) == (expected.verdict, expected.score)
            np.testing.assert_array_equal(result.detection.map, expected.map)
    assert kept.verdicts.count("NG") == 3


def test_an_invalid_frame_is_logged_once_for_each_reason(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with open_engine(bundle, "fake") as engine, caplog.at_level(logging.WARNING):
        summary = run(Belt(6, dark=(1, 2, 4)), Detector(engine))
    assert (summary.ok, summary.invalid) == (3, 3)
    assert caplog.messages == ["frame-1 is INVALID: the frame is dark", "frame-4 is INVALID: the frame is dark"]


def test_one_failure_of_the_engine_is_one_invalid_frame(bundle: Bundle) -> None:
    kept = Kept()
    with FakeEngine(bundle, fail_on=(1, 3)) as engine:
        summary = run(Belt(5), Detector(engine), [kept], LineConfig(max_failures=2))
    assert kept.verdicts == ["OK", "INVALID", "OK", "INVALID", "OK"]
    assert "fails on call 1" in (kept.results[1].reason or "")
    assert kept.results[1].cause == "engine"
    assert (summary.ok, summary.ng, summary.invalid) == (3, 0, 2)


@pytest.mark.parametrize("dark", [(), (2,)])  # a frame without an image between them proves nothing about the engine
def test_failures_in_a_row_end_the_run_with_everything_written(bundle: Bundle, dark: tuple[int, ...]) -> None:
    kept, belt = Kept(), Belt(10, dark=dark)
    with (
        FakeEngine(bundle, fail_on=range(1, 10)) as engine,
        pytest.raises(EngineError, match="3 frames in a row failed"),
    ):
        run(belt, Detector(engine), [kept], LineConfig(max_failures=3))
    assert kept.verdicts == ["OK"] + ["INVALID"] * (3 + len(dark))
    assert not kept.is_open
    assert not belt.is_open


def test_frames_without_images_never_end_the_run(bundle: Bundle) -> None:
    with FakeEngine(bundle) as engine:
        summary = run(Belt(6, dark=tuple(range(6))), Detector(engine), (), LineConfig(max_failures=1))
    assert (summary.ok, summary.invalid) == (0, 6)


def test_cameras_share_a_call_of_the_engine_and_one_bad_frame_harms_no_other(bundle: Bundle) -> None:
    kept = Kept()
    left, right = LiveBelt("left", bad=(0, 2)), LiveBelt("right", bad=(1,))
    with FakeEngine(bundle, fail_on=(1,)) as engine, running(Line([left, right], Detector(engine), [kept])):
        for count in range(1, 4):
            left.step()
            right.step()
            kept.wait_for(2 * count)
    for belt in (left, right):
        mine = [result for result in kept.results if result.record.camera == belt.name]
        assert [result.record.frame_id for result in mine] == [0, 1, 2]
        for result in mine:
            assert result.verdict in ("INVALID", "NG" if result.record.frame_id in belt.bad else "OK")
    assert kept.verdicts.count("INVALID") <= 1  # at most the one whose call failed, when it was alone in it


def test_a_batch_that_fails_is_tried_frame_by_frame(bundle: Bundle) -> None:
    kept = Kept()
    belts = [Belt(1, name=name) for name in ("a", "b", "c")]
    gate = threading.Barrier(3)
    for belt in belts:
        belt.at, belt.event = 0, lambda: gate.wait(SOON_S)
    with FakeEngine(bundle, fail_on=(0,)) as engine:
        run_line = Line(belts, Detector(engine), [kept])
        summary = run_line.run()
        calls = engine.calls
    assert summary.frames == 3
    assert summary.invalid == (1 if calls < 4 else 0)  # fewer than four: the first one held a single frame


def test_a_camera_that_ends_leaves_the_others_running(bundle: Bundle) -> None:
    kept = Kept()
    with open_engine(bundle, "fake") as engine:
        Line([Belt(2, name="short"), Belt(9, name="long")], Detector(engine), [kept]).run()
    assert [r.record.frame_id for r in kept.results if r.record.camera == "long"] == list(range(9))
    assert [r.record.frame_id for r in kept.results if r.record.camera == "short"] == [0, 1]


def test_two_cameras_of_one_name_are_refused(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine, pytest.raises(ConfigError, match="different names, found belt, belt"):
        Line([Belt(1), Belt(1)], Detector(engine))


def test_two_sinks_of_one_name_are_refused(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine, pytest.raises(ConfigError, match="different names, found kept, kept"):
        Line([Belt(1)], Detector(engine), [Kept(), Kept()])


def test_a_reply_that_breaks_costs_no_result(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()

    def reply(result: object) -> None:
        raise ZeroDivisionError("theirs")

    with open_engine(bundle, "fake") as engine:
        run(Belt(3, reply=reply), Detector(engine), [kept])
    assert kept.verdicts == ["OK"] * 3
    assert "did not get the verdict" in caplog.text


def test_a_sink_that_hangs_does_not_keep_a_recorded_run_from_ending(bundle: Bundle) -> None:
    timings = LineTimings(grace_s=0.1, worker=WorkerTimings(flush_s=0.1, close_s=0.1))
    released = threading.Event()

    class Hanging(Kept):
        def write(self, result: FrameResult) -> None:
            super().write(result)
            released.wait(SOON_S)

    hanging = Hanging()
    with open_engine(bundle, "fake") as engine:
        line = Line([Belt(10**6)], Detector(engine), [hanging], timings=timings)
        errors: list[BaseException] = []

        def run_line() -> None:
            try:
                line.run()
            except SinkError as error:
                errors.append(error)

        thread = threading.Thread(target=run_line)
        thread.start()
        hanging.wait_for(1)
        line.stop()
        thread.join(SOON_S)
        assert not thread.is_alive()
        released.set()
    assert "kept" in str(errors[0])


def test_a_view_cuts_and_thins_out(bundle: Bundle) -> None:
    kept = Kept()
    view = View((16, 8, 24, 16), every=3)
    with open_engine(bundle, "fake") as engine:
        run(Belt(7, dark=(4,), bad=(0, 3), view=view), Detector(engine), [kept])
        assert [result.record.frame_id for result in kept.results] == [0, 3, 4, 6]  # what has no image is always told
        assert kept.verdicts == ["NG", "NG", "INVALID", "OK"]
        beside = Kept()
        run(Belt(2, bad=(0, 1), view=View((24, 8, 24, 16))), Detector(engine), [beside])
    assert beside.verdicts == ["OK", "OK"]


def test_a_view_outside_the_image_is_invalid_and_no_fault_of_the_engine(bundle: Bundle) -> None:
    kept = Kept()
    with open_engine(bundle) as engine:
        view = View((0, 0, WIDTH + 1, HEIGHT))
        run(Belt(3, view=view), Detector(engine), [kept], LineConfig(max_failures=1))
    assert [result.cause for result in kept.results] == ["source"] * 3
    assert f"at least {WIDTH + 1}x{HEIGHT} pixels" in (kept.results[0].reason or "")


def test_a_verdict_that_comes_too_late_is_invalid_and_keeps_its_score(bundle: Bundle) -> None:
    kept = Kept()
    with FakeEngine(bundle, service_time_ms=20) as engine:
        run(Belt(2), Detector(engine), [kept], LineConfig(deadline_ms=5))
    for result in kept.results:
        assert (result.verdict, result.cause) == ("INVALID", "deadline")
        assert result.detection is not None
        assert result.latency_ms is not None
        assert result.latency_ms > 5
        assert result.to_dict()["score"] == result.detection.score


def test_who_waits_for_a_frame_is_told(bundle: Bundle) -> None:
    told: list[str] = []
    with open_engine(bundle, "fake") as engine:
        run(Belt(3, dark=(1,), bad=(2,), reply=lambda result: told.append(result.verdict)), Detector(engine))
    assert told == ["OK", "INVALID", "NG"]


def test_a_view_alarm_makes_frames_invalid_where_asked(bundle: Bundle) -> None:
    kept = Kept()
    config = LineConfig(drift=DriftConfig(learn_frames=50, invalidate=True))
    with open_engine(bundle, "fake") as engine:
        line = Line([Darkening(400, from_frame=150)], Detector(engine), [kept], config)
        line.run()
    causes = [result.cause for result in kept.results]
    assert causes[:150] == [None] * 150
    assert causes[-1] == "watch"
    assert "light changed" in (kept.results[-1].reason or "")
    assert [alarm["kind"] for alarm in line.status.snapshot().to_dict()["alarms"]] == ["view"]


def test_false_rejects_that_somebody_marks_raise_an_alarm(bundle: Bundle) -> None:
    kept, belt = Kept(), LiveBelt(bad=tuple(range(50, 80)))
    with open_engine(bundle, "fake") as engine:
        line = Line([belt], Detector(engine), [kept], LineConfig(drift=DriftConfig(bad_share=0.9)))
        assert not line.false_reject("live", 50)  # nothing has come yet
        with running(line):
            belt.step(80)
            kept.wait_for(80)
            assert line.status.snapshot().alarms == ()
            assert all(line.false_reject("live", i) for i in belt.bad)
            assert not line.false_reject("live", 49)
            assert not line.false_reject("other", 50)
            belt.step()
            kept.wait_for(81)
            (alarm,) = line.status.snapshot().alarms
    assert (alarm.kind, alarm.camera) == ("rejects", "live")
    assert "30 of the last 30 parts were NG and marked as good" in alarm.text


class Darkening(Belt):
    """Half the light from some frame on."""

    def __init__(self, count: int, from_frame: int) -> None:
        super().__init__(count, name="darkening")
        self.from_frame = from_frame

    def image(self, i: int) -> np.ndarray:
        image = super().image(i)
        return image // 2 if i >= self.from_frame else image


def test_a_recorded_run_ends_where_a_sink_can_t_write(bundle: Bundle) -> None:
    kept = Kept(fails_from=2)
    with open_engine(bundle, "fake") as engine, pytest.raises(SinkError, match="disk is full"):
        run(Belt(10_000), Detector(engine), [kept])
    assert len(kept.results) == 2
    assert not kept.is_open


def test_a_live_line_goes_on_without_a_sink_and_counts(bundle: Bundle) -> None:
    good, broken, belt = Kept(), Kept(fails_from=2), LiveBelt()
    broken.name = "broken"
    with open_engine(bundle, "fake") as engine:
        timings = LineTimings(worker=WorkerTimings(flush_s=0.1))
        line = Line([belt], Detector(engine), [broken, good], timings=timings)
        with running(line) as summaries:
            belt.step(10)
            good.wait_for(10)
    assert (summaries[0].frames, summaries[0].lost) == (10, 8)
    status = line.status.snapshot().to_dict()["sinks"]
    assert status["kept"]["written"] == 10
    assert status["broken"]["lost"] == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_everything_written(bundle: Bundle, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    kept, belt = Kept(), Belt(10**6, at=2, event=lambda: os.kill(os.getpid(), number))
    with open_engine(bundle, "fake") as engine:
        summary = run(belt, Detector(engine), [kept])
        assert summary.interrupted
        assert 2 <= summary.ok == len(kept.results)
        assert [result.record.frame_id for result in kept.results] == list(range(summary.ok))
        engine.predict(even_frames(1))  # the engine belongs to the caller and is still open
    assert not kept.is_open
    assert not belt.is_open
    assert signal.getsignal(number) is before


def test_runs_in_a_thread_where_signals_can_not_be_caught(bundle: Bundle) -> None:
    summaries = []
    with open_engine(bundle, "fake") as engine:
        thread = threading.Thread(target=lambda: summaries.append(run(Belt(4), Detector(engine))))
        thread.start()
        thread.join()
    assert summaries[0].ok == 4


@pytest.mark.parametrize("error", [SourceError("the cable is out"), ZeroDivisionError("a bug")])
def test_an_error_of_the_source_leaves_everything_written_and_closed(bundle: Bundle, error: Exception) -> None:
    kept, belt = Kept(), Belt(5, at=2, event=raise_(error))
    with open_engine(bundle, "fake") as engine, pytest.raises(type(error), match=str(error)):
        run(belt, Detector(engine), [kept])
    assert len(kept.results) == 2
    assert not kept.is_open
    assert not belt.is_open


def test_a_source_that_does_not_open_leaves_no_file(bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "line.jsonl"
    (tmp_path / "empty").mkdir()
    with open_engine(bundle, "fake") as engine, pytest.raises(SourceError, match="no images"):
        run(open_source(str(tmp_path / "empty")), Detector(engine), [JsonlSink(lines)])
    assert not lines.exists()


def test_the_status_tells_all_of_it(bundle: Bundle) -> None:
    belt, kept = LiveBelt(bad=(1,)), Kept()
    with open_engine(bundle, "fake") as engine:
        line = Line([belt], Detector(engine), [kept])
        assert line.status.snapshot().to_dict()["state"] == "starting"
        with running(line):
            belt.step(3)
            kept.wait_for(3)
            status = line.status.snapshot().to_dict()
            assert (status["state"], status["healthy"], status["model"]["engine"]) == ("running", True, "fake")
        status = line.status.snapshot().to_dict()
    camera = status["cameras"]["live"]
    assert (camera["frames"], camera["ok"], camera["ng"], camera["invalid"]) == (3, 2, 1, 0)
    assert camera["latency_ms"]["p50"] > 0
    assert (status["state"], status["healthy"]) == ("stopped", False)
    assert status["sinks"]["kept"]["written"] == 3


def test_the_service_manager_is_told(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(SOON_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        with open_engine(bundle, "fake") as engine:
            run(Belt(2), Detector(engine))
        told = {manager.recv(100) for _ in range(4)}
    assert told == {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}


@pytest.mark.parametrize(
    "options", [{"max_failures": 0}, {"max_batch": 0}, {"deadline_ms": 0.0}, {"deadline_ms": float("nan")}]
)
def test_options_that_can_t_work(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        LineConfig(**options)  # type: ignore[arg-type]


def test_a_source_that_ends_with_an_error_does_not_end_the_others(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other, kept = (
        Belt(5, at=2, event=raise_(SourceError("a film without frames")), name="film"),
        Belt(9),
        Kept(),
    )
    with open_engine(bundle, "fake") as engine:
        line = Line([broken, other], Detector(engine), [kept])
        with pytest.raises(SourceError, match="a film without frames"):
            line.run()
    assert [result.record.camera for result in kept.results].count("belt") == 9
    assert "film has ended: a film without frames" in caplog.messages
    assert line.status.snapshot().cameras["film"].connected is False


class Slow(Kept):
    """Opens once all of them are opening."""

    def __init__(self, name: str, together: threading.Barrier) -> None:
        super().__init__()
        self.name, self.together = name, together

    def open(self) -> None:
        self.together.wait(SOON_S)
        super().open()


def test_sinks_open_all_at_once(bundle: Bundle) -> None:
    together = threading.Barrier(3)
    sinks = [Slow(name, together) for name in "abc"]
    with open_engine(bundle, "fake") as engine:
        run(Belt(2), Detector(engine), sinks)
    assert [len(sink.results) for sink in sinks] == [2, 2, 2]


def test_where_one_sink_does_not_open_the_others_are_closed(bundle: Bundle, tmp_path: Path) -> None:
    lines = tmp_path / "line.jsonl"
    with open_engine(bundle, "fake") as engine:
        with pytest.raises(SinkError, match="Is a directory"):
            run(Belt(2), Detector(engine), [JsonlSink(tmp_path), JsonlSink(lines)])
        run(Belt(2), Detector(engine), [JsonlSink(lines)])  # nobody holds it
    assert len(lines.read_text().splitlines()) == 2


def test_both_ends_of_an_outage_of_a_camera_are_in_the_log(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    belt, kept = LiveBelt(), Kept()
    belt.dark = (1, 2)
    with open_engine(bundle, "fake") as engine, running(Line([belt], Detector(engine), [kept])):
        belt.step(4)
        kept.wait_for(4)
    assert [text for text in caplog.messages if "frame-" in text] == [
        "frame-1 is INVALID: the frame is dark",
        "frame-3 is inspected again",
    ]


def test_a_result_does_not_hold_whoever_asked_for_it(bundle: Bundle) -> None:
    """Or each would keep the other, and an image, until Python looks for such circles, which may take hours."""
    seen: list[FrameResult] = []
    with open_engine(bundle) as engine:
        run(Belt(3, reply=seen.append), Detector(engine))
    assert [result.verdict for result in seen] == ["OK"] * 3
    assert [result.record.reply for result in seen] == [None] * 3
