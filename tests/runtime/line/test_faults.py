"""What goes wrong beside a line, through the whole of it: what was not inspected is never OK, no loss goes unsaid."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import SinkError, SourceError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line, LineConfig, Summary, run
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks import JsonlSink, ModbusAddress, ModbusSink, Sink
from simplenet_edge.runtime.sources import (
    HttpTriggered,
    NetworkCamera,
    PushedImages,
    SyntheticCamera,
    SyntheticParts,
    open_source,
)
from simplenet_edge.runtime.status import LineStatus
from tests.bundles import even_frames, with_spot
from tests.runtime.belts import Kept
from tests.runtime.sources.ip_camera import IMPATIENT, IpCamera
from tests.runtime.sources.test_live import Scripted
from tests.servers import free_port
from tests.waiting import SOON_S, until

pytestmark = pytest.mark.slow

STRICT = LineConfig(strict=True)
COMMAND = [sys.executable, "-c", "from simplenet_edge.cli import main; main()", "run"]


@contextmanager
def running(line: Line) -> Iterator[Callable[[], Summary]]:
    """The line in a thread; what it gives stops it, and says what it came to."""
    summaries: list[Summary] = []
    thread = threading.Thread(target=lambda: summaries.append(line.run()))

    def end() -> Summary:
        line.stop()
        thread.join(SOON_S)
        assert not thread.is_alive()
        return summaries[0]

    thread.start()
    try:
        yield end
    finally:
        end()


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_gaps_are_declared(lines: list[dict[str, Any]]) -> None:
    """Every id of one run that has no line was counted as dropped by the next line."""
    assert lines[0]["frame_id"] == lines[0]["dropped"]
    for before, after in pairwise(lines):
        assert after["frame_id"] - before["frame_id"] - 1 == after["dropped"] - before["dropped"] >= 0


def test_a_camera_that_is_unplugged_is_never_ok_until_it_is_back(bundle: Bundle, tmp_path: Path) -> None:
    path, kept = tmp_path / "line.jsonl", Kept()
    patient = replace(IMPATIENT, silence_s=SOON_S)  # a busy machine is no unplugged camera
    with IpCamera() as camera, FakeEngine(bundle) as engine:
        line = Line([NetworkCamera(camera.url, patient)], Detector(engine), [kept, JsonlSink(path)])
        (name,) = line.status.snapshot().to_dict()["cameras"]
        with running(line) as end:
            until(lambda: kept.verdicts.count("OK") >= 3)
            until(lambda: line.status.snapshot().to_dict()["healthy"])
            camera.die()
            until(lambda: kept.verdicts.count("INVALID") >= 3)
            until(lambda: not line.status.snapshot().to_dict()["healthy"])
            away = line.status.snapshot().to_dict()
            assert away["cameras"][name]["connected"] is False
            assert [alarm["camera"] for alarm in away["alarms"] if alarm["kind"] == "camera"] == [name]
            camera.revive()
            until(lambda: kept.verdicts[-1] == "OK")
            until(lambda: line.status.snapshot().to_dict()["healthy"])
            summary = end()
    counts, lines = line.status.snapshot().to_dict()["cameras"][name], read_lines(path)
    assert [verdict for verdict, _ in groupby(line["verdict"] for line in lines)] == ["OK", "INVALID", "OK"]
    for entry in lines:
        assert (entry["cause"] == "source") is (entry["verdict"] == "INVALID") is (entry["score"] is None)
        assert (entry["reason"] or "the camera is away: ").startswith("the camera is away: ")
    assert_gaps_are_declared(lines)
    assert [entry["frame_id"] for entry in lines] == [result.record.frame_id for result in kept.results]
    assert (counts["ok"], counts["invalid"]) == (kept.verdicts.count("OK"), kept.verdicts.count("INVALID"))
    assert (counts["reconnects"], counts["invalid_by_cause"]) == (1, {"source": counts["invalid"]})
    assert (summary.frames, summary.lost) == (len(lines), 0)


def test_where_the_engine_fails_on_one_frame_just_that_one_is_invalid(bundle: Bundle) -> None:
    kept = Kept()
    with FakeEngine(bundle, fail_on=(7,)) as engine:
        run(open_source("test://?frames=20&size=64x48"), Detector(engine), [kept])
    assert [i for i, verdict in enumerate(kept.verdicts) if verdict != "OK"] == [7]
    assert (kept.results[7].verdict, kept.results[7].cause) == ("INVALID", "engine")


class Stuck(Sink):
    """A disk that doesn't answer before `free`."""

    name = "stuck"

    def __init__(self) -> None:
        self.free = threading.Event()

    def open(self) -> None:
        pass

    def write(self, result: FrameResult) -> None:
        assert self.free.wait(SOON_S)

    def close(self) -> None:
        pass


def test_a_sink_that_hangs_does_not_hold_up_a_live_line(bundle: Bundle) -> None:
    stuck, kept = Stuck(), Kept()
    stuck.capacity = 4  # type: ignore[misc]
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=200)
    with FakeEngine(bundle) as engine:
        line = Line([camera], Detector(engine), [stuck, kept])
        with running(line) as end:
            assert len(kept.wait_for(30)) >= 30
            stuck.free.set()
            summary = end()
    assert summary.lost >= 30 - 1 - 4  # one in hand, four wait
    assert_gaps_are_declared([result.to_dict() for result in kept.results])


def png(image: np.ndarray[Any, Any]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_posted_images_are_answered_with_their_verdicts(bundle: Bundle) -> None:
    kept, good = Kept(), even_frames(1)
    source = PushedImages("127.0.0.1", 0, answer_s=SOON_S)
    with FakeEngine(bundle, fail_on=(2,)) as engine, running(Line([source], Detector(engine), [kept])):
        until(lambda: source.posts.is_open)
        answers = [
            httpx.post(source.posts.url, content=data, timeout=SOON_S)
            for data in (png(good[0]), b"no image", png(with_spot(good)[0]), png(good[0]))
        ]
        assert [answer.status_code for answer in answers] == [200, 400, 200, 200]
        assert [answer.json().get("verdict") for answer in answers] == ["OK", None, "NG", "INVALID"]
        assert answers[3].json()["cause"] == "engine"
    assert kept.verdicts == ["OK", "NG", "INVALID"]


def test_a_verdict_that_takes_too_long_is_no_answer_but_is_kept(bundle: Bundle) -> None:
    kept = Kept()
    source = PushedImages("127.0.0.1", 0, answer_s=0.01)
    with FakeEngine(bundle, service_time_ms=300) as engine, running(Line([source], Detector(engine), [kept])):
        until(lambda: source.posts.is_open)
        assert httpx.post(source.posts.url, content=png(even_frames(1)[0]), timeout=SOON_S).status_code == 504
        assert kept.wait_for(1)[0].verdict == "OK"


def test_triggers_are_answered_with_the_verdicts_on_their_frames(bundle: Bundle) -> None:
    kept = Kept()
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=100)
    source = HttpTriggered(camera, "127.0.0.1", 0, timeout_s=SOON_S)
    with FakeEngine(bundle) as engine, running(Line([source], Detector(engine), [kept])) as end:
        until(lambda: source.posts.is_open)
        found = [httpx.post(source.posts.url, timeout=SOON_S).json() for _ in range(5)]
        summary = end()
    assert (summary.ok, summary.frames, summary.dropped) == (5, 5, 0)
    assert found == [result.to_dict() for result in kept.results]


def test_who_waits_for_a_frame_when_the_line_ends_is_told_at_once(bundle: Bundle) -> None:
    source = HttpTriggered(Scripted(), "127.0.0.1", 0, timeout_s=SOON_S)
    answers: list[int] = []
    with FakeEngine(bundle) as engine, running(Line([source], Detector(engine))) as end:
        until(lambda: source.posts.is_open)
        url = source.posts.url
        post = threading.Thread(target=lambda: answers.append(httpx.post(url, timeout=SOON_S).status_code))
        post.start()
        until(lambda: len(source._asked) == 1)
        assert end().frames == 0
        post.join(SOON_S)
    assert answers == [503]


@contextmanager
def started(bundle: Bundle, path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command line on a live test source, once it has written 20 lines more."""
    command = [*COMMAND, str(bundle.path), "test://?fps=50&size=64x48", "--engine", "fake", "--jsonl", str(path), *more]
    n_before = len(read_lines(path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            until(lambda: program.poll() is not None or len(read_lines(path)) >= n_before + 20)
            assert program.poll() is None, program.communicate()
            yield program
        finally:
            program.kill()


def test_after_a_kill_only_the_tail_is_missing_and_the_next_run_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with started(bundle, path) as program:
        program.kill()
    first = read_lines(path)
    assert len(first) >= 20
    with started(bundle, path) as program:
        program.terminate()
        assert program.wait(SOON_S) == 0
    lines = read_lines(path)
    assert lines[: len(first)] == first
    assert_gaps_are_declared(first)
    assert_gaps_are_declared(lines[len(first) :])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_everything_written(
    bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "line.jsonl"
    with started(bundle, path) as program:
        program.send_signal(number)
        _, told = program.communicate(timeout=SOON_S)
    assert program.returncode == 0
    lines = read_lines(path)
    assert_gaps_are_declared(lines)
    found = re.search(r"(\d+) frames in \S+ s: (\d+) OK, 0 NG, 0 INVALID.*\(interrupted\)", told)
    assert found, told
    assert [int(text) for text in found.groups()] == [len(lines), len(lines)]


def test_a_camera_that_is_dead_at_the_start_is_invalid_and_the_other_is_inspected(bundle: Bundle) -> None:
    dead, kept = Scripted(), Kept()
    dead.refuse = "nobody answers"
    other = SyntheticCamera(SyntheticParts((96, 64)), fps=50)
    with FakeEngine(bundle) as engine:
        line = Line([dead, other], Detector(engine), [kept])
        with running(line):
            until(lambda: {"INVALID", "OK"} <= set(kept.verdicts))
            until(lambda: line.status.snapshot().problems == ["camera scripted is away"])
            dead.refuse = None
            dead.script.put(50)
            until(lambda: line.status.snapshot().problems == [])
    causes = {(result.record.camera, result.cause) for result in kept.results if result.verdict == "INVALID"}
    assert causes == {("scripted", "source")}


def test_a_strict_line_does_not_start_without_its_camera_or_its_sink(bundle: Bundle, tmp_path: Path) -> None:
    dead = Scripted()
    dead.refuse = "nobody answers"
    with FakeEngine(bundle) as engine:
        with pytest.raises(SourceError, match="nobody answers"):
            Line([dead], Detector(engine), config=STRICT).run()
        camera = SyntheticCamera(SyntheticParts((96, 64)), fps=50)
        line = Line([camera], Detector(engine), [ModbusSink(ModbusAddress("127.0.0.1", free_port()))], STRICT)
        with pytest.raises(SinkError, match="does not answer"):
            line.run()


def test_a_name_that_is_no_text_reaches_every_output(bundle: Bundle, tmp_path: Path) -> None:
    """A file name that is not UTF-8, and one with a line break and an escape code."""
    folder = tmp_path / "parts"
    folder.mkdir()
    png = cv2.imencode(".png", even_frames(1)[0])[1].tobytes()
    for name in (b"caf\xe9.png", b"two\nlines\x1b[31m.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(png)
    status = LineStatus()
    path = tmp_path / "line.jsonl"
    with FakeEngine(bundle) as engine, Monitor(status, port=0) as monitor:
        source = open_source(str(folder))
        Line([source], Detector(engine), [JsonlSink(path), monitor.sink], status=status).run()
        for place in ("/api/history", "/api/status", "/metrics", "/api/gallery"):
            assert httpx.get(monitor.url + place).status_code == 200, place
    assert {json.loads(line)["name"] for line in path.read_text().splitlines()} == {
        "caf\\udce9.png",
        "two\nlines\x1b[31m.png",
    }
