from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.runtime.sources import LiveSettings, LiveSource
from simplenet_edge.runtime.sources.device import Device, EndOfFrames
from simplenet_edge.spec import Frames
from tests.runtime.sources.ip_camera import first
from tests.waiting import SOON_S, until

QUICK = LiveSettings(backoff_s=(0.01, 0.02), report_s=0.05)


class Scripted(LiveSource):
    """Its device gives what is put into `script`: a grey level, an error to raise, or an event to hang on."""

    def __init__(self, settings: LiveSettings = QUICK) -> None:
        super().__init__("scripted", settings)
        self.script: queue.Queue[int | Exception | threading.Event] = queue.Queue()
        self.opened = self.closed = self.read = 0
        self.refuse: str | None = None

    def _connect(self) -> Device:
        if self.refuse is not None:
            raise SourceError(self.refuse)
        self.opened += 1
        return ScriptedDevice(self)


class ScriptedDevice:
    def __init__(self, source: Scripted) -> None:
        self.source = source

    def read(self) -> Frames:
        while True:
            try:
                step = self.source.script.get(timeout=0.02)
            except queue.Empty:
                if self.source.stopping.is_set():
                    raise EndOfFrames from None
                continue
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                assert step.wait(SOON_S)
                continue
            self.source.read += 1
            return np.full((8, 8, 3), step, np.uint8)

    def close(self) -> None:
        self.source.closed += 1


@pytest.fixture
def source() -> Iterator[Scripted]:
    with Scripted() as opened:
        yield opened
    assert opened.opened == opened.closed
    assert not [thread for thread in threading.enumerate() if thread.name == "grab scripted"]


def test_the_newest_frame_comes_and_the_gap_is_counted(source: Scripted) -> None:
    for level in (50, 60, 70):
        source.script.put(level)
    until(lambda: source.read == 3 and source.dropped == 2)
    frames = iter(source)
    record = next(frames)
    assert record.image is not None
    assert (record.frame_id, record.dropped, record.image.max()) == (2, 2, 70)
    source.script.put(80)
    assert next(frames).frame_id == 3


def test_stop_ends_a_wait_for_a_frame(source: Scripted) -> None:
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    source.stop()
    thread.join(SOON_S)
    assert not thread.is_alive()


def test_the_end_ends_it_after_the_last_frame(source: Scripted) -> None:
    source.script.put(50)
    source.script.put(EndOfFrames())
    assert [record.frame_id for record in source] == [0]


def test_an_image_that_can_not_be_used_is_invalid_and_no_loss(source: Scripted) -> None:
    source.script.put(DataError("partly transparent"))
    record = next(iter(source))
    assert (record.image, record.error) == (None, "partly transparent")
    assert source.connected


def test_a_loss_is_told_although_the_camera_was_back_before_anybody_looked(source: Scripted) -> None:
    source.script.put(50)
    until(lambda: source.read == 1)
    frames = iter(source)
    next(frames)
    source.script.put(SourceError("the cable is out"))
    source.script.put(60)
    until(lambda: source.reconnects == 1)
    told, back = next(frames), next(frames)
    assert told.error == "the camera is away: the cable is out"
    assert (told.frame_id, back.frame_id, back.error) == (1, 2, None)


def test_losses_that_nobody_took_in_time_are_counted_as_dropped(source: Scripted) -> None:
    for i in range(3):
        source.script.put(50)
        source.script.put(SourceError(f"loss {i}"))
    source.script.put(60)
    until(lambda: source.reconnects == 3)
    frames = iter(source)
    told, newest = next(frames), next(frames)
    assert told.error == "the camera is away: loss 2"
    assert (told.frame_id, told.dropped, newest.frame_id, newest.dropped) == (5, 5, 6, 5)


def test_where_silence_is_no_fault_a_driver_may_wait_for_as_long_as_it_likes() -> None:
    settings = replace(QUICK, silence_s=math.inf, hung_s=0.05)
    with Scripted(settings) as source:
        until(lambda: source.script.empty() and source._busy_s < time.monotonic() - 0.2)
        source.look_after()
        assert (source.opened, source.connected) == (1, True)
        source.script.put(50)
        assert next(iter(source)).error is None


def test_while_away_a_record_comes_again_and_again(source: Scripted) -> None:
    source.refuse = "nobody answers"
    source.script.put(SourceError("the cable is out"))
    frames = iter(source)
    records = [next(frames) for _ in range(4)]
    assert [record.frame_id for record in records] == [0, 1, 2, 3]
    assert {record.error for record in records[1:]} == {"the camera is away: nobody answers"}
    assert (source.connected, source.reconnects) == (False, 0)
    source.refuse = None
    source.script.put(50)
    assert first(frames, lambda record: record.image is not None).image is not None
    assert (source.connected, source.reconnects) == (True, 1)


def test_the_first_open_fails_with_its_reason() -> None:
    source = Scripted()
    source.refuse = "nobody answers"
    with pytest.raises(SourceError, match="nobody answers"):
        source.__enter__()


def test_with_patience_it_is_away_at_the_start_as_it_would_be_later() -> None:
    source = Scripted()
    source.refuse = "nobody answers"
    source.patient = True
    with source:
        frames = iter(source)
        assert next(frames).error == "the camera is away: nobody answers"
        assert not source.connected
        source.refuse = None
        source.script.put(50)
        assert first(frames, lambda record: record.image is not None).error is None
        assert (source.connected, source.reconnects) == (True, 1)


def test_both_ends_of_an_outage_are_logged(source: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    frames = iter(source)
    source.script.put(SourceError("the cable is out"))
    first(frames, lambda record: record.error is not None)
    source.script.put(50)
    first(frames, lambda record: record.image is not None)
    went, came = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert went == "scripted is away: the cable is out"
    assert came.startswith("scripted is back after ")


def test_a_bug_is_raised_where_frames_are_read(source: Scripted) -> None:
    source.script.put(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(source)


class Hanging(LiveSource):
    """Its first `hangs` devices don't return before `release`, and then with a white picture."""

    def __init__(self, hangs: int) -> None:
        super().__init__("hanging", LiveSettings(silence_s=0.2, hung_s=0.3, backoff_s=(0.01, 0.02), report_s=0.05))
        self.hangs = hangs
        self.release = threading.Event()
        self.opened = self.closed = 0

    def _connect(self) -> Device:
        self.opened += 1
        return HangingDevice(self, self.opened <= self.hangs)


class HangingDevice:
    def __init__(self, source: Hanging, hangs: bool) -> None:
        self.source, self.hangs = source, hangs
        self.rng = np.random.default_rng()

    def read(self) -> Frames:
        if self.hangs:
            assert self.source.release.wait(SOON_S)
            return np.full((8, 8, 3), 255, np.uint8)
        self.source.stopping.wait(0.01)
        return self.rng.integers(50, 90, (8, 8, 3), dtype=np.uint8)

    def close(self) -> None:
        self.source.closed += 1


def test_a_driver_that_never_returns_is_left_behind() -> None:
    with Hanging(1) as source:
        frames = iter(source)
        assert "no frame for" in (first(frames, lambda record: record.error is not None).error or "")
        assert not source.connected
        assert first(frames, lambda record: record.image is not None).image is not None
        assert source.opened >= 2
        assert source.reconnects >= 1
        source.release.set()
        until(lambda: source.closed >= 1)  # the one that hung gives its device back, and its picture to nobody
        images = [record.image for record in (next(frames) for _ in range(5))]
        assert all(image is None or image.max() < 255 for image in images)
    until(lambda: source.closed == source.opened)


def test_no_more_than_two_threads_are_left_behind() -> None:
    with Hanging(100) as source:
        frames = iter(source)
        until(lambda: next(frames).error is not None and source.opened == 3)
        assert all(next(frames).error is not None for _ in range(10))
        assert source.opened == 3
        source.release.set()
    until(lambda: source.closed == source.opened)


def test_frames_that_the_device_left_out_are_dropped_ones(source: Scripted) -> None:
    frames = iter(source)
    source.script.put(50)
    assert next(frames).dropped == 0

    class Hurried(ScriptedDevice):
        def read(self) -> Frames:
            self.source._passed_over(3)
            return super().read()

    def connect() -> Device:
        source.opened += 1
        return Hurried(source)

    source._connect = connect  # type: ignore[method-assign]
    source.script.put(SourceError("the cable is out"))
    source.script.put(60)
    back = first(frames, lambda record: record.image is not None)
    assert back.frame_id - back.dropped == source._n_given - 1
    assert source.dropped >= 3
