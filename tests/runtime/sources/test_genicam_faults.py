"""Triggers, losses and ends, against Aravis' own GigE Vision camera, a process; skipped where it isn't installed."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.imaging.raw_pixels import raw_to_bgr
from simplenet_edge.runtime.sources import (
    GenicamCamera,
    GenicamSettings,
    Triggered,
    TriggeredGenicamCamera,
    aravis,
    genicam,
    open_source,
)
from simplenet_edge.runtime.sources.aravis import Buffer
from simplenet_edge.spec import Frames
from tests.runtime.sources.gige_camera import ADDRESS, QUICK, SMALL, GigeCamera, opened
from tests.runtime.sources.ip_camera import dies_and_returns, first
from tests.waiting import SOON_S, until


@pytest.mark.slow
def test_a_camera_that_dies_is_away_and_comes_back() -> None:
    with GigeCamera() as camera, GenicamCamera(ADDRESS, QUICK, SMALL) as source:
        back = dies_and_returns(camera, source, "the camera is away", "no GenICam camera")
        assert back.image is not None
        assert back.image.shape == (48, 64, 3)  # what it forgot is set again


def test_lost_packets_make_frames_invalid_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wanted = GenicamSettings(roi_xywh=(0, 0, 256, 256), fps=50)
    with GigeCamera(lost=10) as _, GenicamCamera(ADDRESS, QUICK, wanted) as source:
        frames = iter(source)
        bad = first(frames, lambda record: record.error is not None)
        good = first(frames, lambda record: record.image is not None)
        assert source.connected
    assert bad.image is None
    assert bad.camera_frame_id is not None
    assert "the frame is not whole" in (bad.error or "")
    assert "packets missing" in (bad.error or "")
    assert good.error is None
    closed = next(record for record in caplog.records if " closed: " in record.getMessage())
    assert isinstance(closed.args, tuple)
    assert int(str(closed.args[2])) >= 1  # incomplete frames
    assert int(str(closed.args[5])) >= 1  # packets


def test_frames_of_which_nothing_came_are_counted_as_dropped() -> None:
    wanted = GenicamSettings(roi_xywh=(0, 0, 16, 16), fps=100)  # three packets a frame
    with GigeCamera(lost=700) as _, GenicamCamera(ADDRESS, QUICK, wanted) as source:
        frames = iter(source)
        begin = first(frames, lambda record: record.camera_frame_id is not None)
        end = first(frames, lambda record: record.camera_frame_id is not None and record.dropped > begin.dropped)
    assert begin.camera_frame_id is not None
    assert end.camera_frame_id is not None
    sent = (end.camera_frame_id - begin.camera_frame_id) % 65535
    assert end.frame_id - begin.frame_id >= sent  # some that come without their number may be counted twice


def test_each_trigger_takes_a_picture(camera: GigeCamera) -> None:
    source = opened("camera_trigger=software&trigger=stdin&timeout=60")
    assert isinstance(source, Triggered)
    triggered = Triggered(source.camera, SOON_S)  # without its standard input
    with triggered:
        frames = triggered.frames()
        records = []
        for _ in range(3):
            time.sleep(0.1)
            before_ns = time.time_ns()
            triggered.fire()
            records.append(next(frames))
            assert (records[-1].camera_time_ns or 0) > before_ns  # its clock is this machine's
        assert [record.error for record in records] == [None] * 3
        ids = [record.camera_frame_id or 0 for record in records]
        assert ids == [ids[0], ids[0] + 1, ids[0] + 2]  # and none besides
        assert triggered.connected


def test_a_frame_that_waited_at_the_trigger_is_not_the_triggers(
    camera: GigeCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line converts a frame for longer than the camera takes for the next, which then is older than the trigger."""
    busy, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Frames:
        busy.set()
        assert go_on.wait(SOON_S)
        return raw_to_bgr(*arguments)

    monkeypatch.setattr(genicam, "raw_to_bgr", slow)
    with Triggered(GenicamCamera(ADDRESS, QUICK, SMALL), SOON_S) as triggered:
        assert busy.wait(SOON_S)
        time.sleep(0.2)  # more frames come
        triggered.fire()
        fired_ns = time.time_ns()
        go_on.set()
        record = next(triggered.frames())
    assert (record.camera_time_ns or 0) > fired_ns


@pytest.mark.slow
def test_a_camera_that_dies_between_triggers_is_away_and_comes_back() -> None:
    wanted = GenicamSettings(roi_xywh=(0, 0, 64, 48), trigger="software")
    source = TriggeredGenicamCamera(ADDRESS, QUICK, wanted)
    with GigeCamera() as camera, Triggered(source, 0.5) as triggered:
        frames = triggered.frames()
        triggered.fire()
        assert next(frames).image is not None
        camera.kill()
        until(lambda: source.away)
        triggered.fire()
        assert "the camera is away" in (next(frames).error or "")
        camera.start()
        until(lambda: not source.away)  # before anybody asks for a frame
        triggered.timeout_s = SOON_S
        triggered.fire()
        assert next(frames).image is not None
        assert triggered.reconnects == 1


def test_silence_of_a_line_that_nothing_triggers_is_no_fault(camera: GigeCamera) -> None:
    with opened("camera_trigger=line0&silence=0.1") as source:
        assert isinstance(source, TriggeredGenicamCamera)
        assert (source.live, source.on_demand) == (True, True)
        time.sleep(0.5)
        source.look_after()
        assert not source.away


def test_a_software_trigger_without_an_answer_is_a_fault() -> None:
    """Line0 is what nobody pulls; the command to fire is obeyed and nothing comes."""
    wanted = GenicamSettings(roi_xywh=(0, 0, 64, 48), trigger="software")
    source = TriggeredGenicamCamera(ADDRESS, QUICK, wanted)
    with GigeCamera(lost=1000) as _, source:
        source.request_frame()
        until(lambda: "no frame within 1 s" in source.away or source.reconnects)


def test_no_part_is_overwritten_while_the_line_is_busy(camera: GigeCamera) -> None:
    wanted = GenicamSettings(roi_xywh=(0, 0, 64, 48), trigger="software")
    source = TriggeredGenicamCamera(ADDRESS, QUICK, wanted)
    with source:
        for number in range(1, 19):
            source.request_frame()
            until(lambda number=number: source._next_id == number)  # type: ignore[misc]
        frames = iter(source)
        records = [next(frames) for _ in range(18)]
    assert [record.frame_id for record in records] == list(range(18))
    assert [record.error is None for record in records] == [True] * 16 + [False] * 2
    assert "16 parts wait already" in (records[-1].error or "")


class Scripted:
    """A stream that gives frames of these counts."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def take(self, timeout_s: float, newest: bool) -> Buffer | None:
        if not self.ids:
            time.sleep(timeout_s)
            return None
        return Buffer(time.monotonic(), self.ids.pop(0), 1, None, np.full(4, 9, np.uint8), 0x01080001, (2, 2))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([7, 8, 11], [7, 8, None, None, 11]),
        ([65534, 65535, 1, 3], [65534, 65535, 1, None, 3]),  # GigE Vision 1 leaves 0 out
        ([65535, 0, 1], [65535, 0, 1]),  # those that don't
        ([2**40, 2**40 + 2], [2**40, None, 2**40 + 2]),
        ([5, 5, 6], [5, 5, 6]),
        ([5, 5000, 5001], [5, 5000, 5001]),  # it counts anew
    ],
)
def test_a_part_whose_frame_never_came_is_invalid(
    camera: GigeCamera, ids: list[int], expected: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted(ids)
    monkeypatch.setattr(aravis.AravisStream, "take", lambda self, timeout_s, newest: script.take(timeout_s, newest))
    with TriggeredGenicamCamera(ADDRESS, QUICK, GenicamSettings(trigger="Line0")) as source:
        frames = iter(source)
        records = [next(frames) for _ in expected]
    assert [record.camera_frame_id for record in records] == expected
    assert all(("never came" in (record.error or "")) == (record.image is None) for record in records)


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    aravis._library.cache_clear()
    try:
        with pytest.raises(SourceError, match=r"apt-get install libaravis-0\.8-0"):
            open_source("genicam:").__enter__()
    finally:
        monkeypatch.undo()
        aravis._library.cache_clear()


_GROWTH = """
import sys
from simplenet_edge.runtime.sources.aravis import AravisCamera

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def once(frames):
    camera = AravisCamera(sys.argv[1])
    stream = camera.start()
    for _ in range(frames):
        assert stream.take(5, False) is not None
    camera.ask("stop_acquisition")
    stream.close()
    camera.close()

for _ in range(20):
    once(1)
begin = resident()
for _ in range(100):
    once(1)
print((resident() - begin) / 100)
"""


@pytest.mark.slow
def test_opening_and_closing_leaves_nothing_behind(camera: GigeCamera) -> None:
    with opened("roi=0,0,512,512&fps=100"):
        pass
    done = subprocess.run([sys.executable, "-c", _GROWTH, ADDRESS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100_000  # bytes; its eight buffers have 2 MiB
