"""Against Aravis' own GigE Vision camera, a process; skipped where it isn't installed."""

from __future__ import annotations

import ctypes
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.imaging.raw_pixels import raw_to_bgr
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources import (
    GenicamCamera,
    GenicamSettings,
    LiveSettings,
    Source,
    Triggered,
    TriggeredGenicamCamera,
    aravis,
    genicam,
    open_source,
)
from simplenet_edge.runtime.sources.aravis import AravisCamera, Buffer
from simplenet_edge.spec import Frames
from tests.runtime.sources.gige_camera import ADDRESS, GigeCamera
from tests.runtime.sources.ip_camera import first
from tests.waiting import SOON_S, until

QUICK = LiveSettings(silence_s=1.0, frozen_s=math.inf, black=False, backoff_s=(0.05, 0.2), report_s=0.1)
SMALL = GenicamSettings(roi_xywh=(0, 0, 64, 48), pixel_format="Mono8", exposure_us=10_000, gain=0)


@pytest.fixture
def camera() -> Iterator[GigeCamera]:
    with GigeCamera() as running:
        yield running


def opened(options: str) -> Source:
    """The camera with the settings of `SMALL`, and with these."""
    settled = {"roi": "0,0,64,48", "format": "Mono8", "exposure": "10000", "gain": "0", "fps": "25", "frozen": "off"}
    given = dict(option.split("=") for option in options.split("&"))
    return open_source(f"genicam:{ADDRESS}#" + "&".join(f"{key}={value}" for key, value in (settled | given).items()))


def whole(source: Source) -> FrameRecord:
    return first(source.frames(), lambda record: record.image is not None)


def test_frames_come_with_the_cameras_own_count_and_clock(camera: GigeCamera) -> None:
    with open_source(f"genicam:{camera.id}#frozen=off&roi=0,0,64,48&format=Mono8") as source:
        frames = source.frames()
        records = [next(frames) for _ in range(5)]
    assert source.name == camera.id
    for before, after in pairwise(records):
        assert before.error is None
        assert before.camera_frame_id is not None
        assert after.camera_frame_id == before.camera_frame_id + 1 + after.dropped - before.dropped
        assert before.camera_time_ns is not None
        assert after.camera_time_ns is not None
        assert after.camera_time_ns > before.camera_time_ns
        assert after.image is not None
        assert (after.image.shape, after.image.dtype) == ((48, 64, 3), np.uint8)
        # What it draws: a ramp that moves with its count.
        assert after.image[3, 5].tolist() == [(3 + 5 + after.camera_frame_id) % 255] * 3
        assert after.image.base is None or after.image.base.flags.owndata


def test_without_an_id_it_is_the_first_camera(camera: GigeCamera) -> None:
    with open_source("genicam:#frozen=off&name=top&roi=0,0,64,48") as source:
        assert whole(source).camera == "top"


@pytest.mark.parametrize(
    ("options", "brightest"),
    [
        ("exposure=10000", 254),
        ("exposure=2000", 76),  # it takes the logarithm
        ("gain=3", 255),
    ],
)
def test_exposure_and_gain_reach_the_camera(camera: GigeCamera, options: str, brightest: int) -> None:
    with opened(options + "&roi=0,0,512,48") as source:
        image = whole(source).image
        assert image is not None
        assert image.max() == brightest


def test_automatic_gain_is_switched_on_and_off(camera: GigeCamera) -> None:
    for option, expected in (("gain=auto", 2), ("gain=0", 0)):
        with opened(option) as source:
            whole(source)
        control = AravisCamera(ADDRESS)
        try:
            assert control.ask("get_gain_auto") == expected
        finally:
            control.close()


def test_a_region_of_the_sensor(camera: GigeCamera) -> None:
    with opened("roi=16,8,128,96") as source:
        record = whole(source)
        assert record.image is not None
        assert (record.image.shape, record.offset_xy) == ((96, 128, 3), (0, 0))


def test_the_upper_bits_and_levels_of_16_bits(camera: GigeCamera) -> None:
    with opened("format=mono16") as source:
        record = whole(source)
        assert record.image is not None
        assert record.camera_frame_id is not None
        value = 256 * (3 + 5 + record.camera_frame_id) % 65535
        assert record.image[3, 5].tolist() == [round(value * 255 / 65535)] * 3
    with opened("format=Mono16&levels=0,1024&roi=0,0,512,48") as source:
        image = whole(source).image
        assert image is not None
        assert np.mean(image == 255) > 0.9


def test_colours(camera: GigeCamera) -> None:
    """The same ramp in colour: of RGB8, and of the two Bayer patterns that this camera draws as PFNC defines them."""
    means = {}
    for name in ("RGB8", "BayerGR8", "BayerGB8"):
        with opened(f"format={name}&exposure=2000") as source:  # the dark end of the ramp, which is blue
            image = whole(source).image
            assert image is not None
            means[name] = image.reshape(-1, 3).mean(axis=0)
    for mean in means.values():
        assert mean[0] > 100
        assert mean[2] < 30
        assert np.abs(mean - means["RGB8"]).max() < 40


@pytest.mark.parametrize("fps", [10, 50])
def test_the_rate_is_the_cameras(camera: GigeCamera, fps: int) -> None:
    with opened(f"fps={fps}") as source:
        frames = source.frames()
        records = [next(frames) for _ in range(16)]
    times_ns = np.array([record.camera_time_ns for record in records[1:]], float)
    ids = np.array([record.camera_frame_id for record in records[1:]], float)
    assert (times_ns[-1] - times_ns[0]) / (ids[-1] - ids[0]) == pytest.approx(1e9 / fps, rel=0.5)


def test_the_packet_size(camera: GigeCamera) -> None:
    with opened("packet=3000") as source:
        whole(source)
    control = AravisCamera(ADDRESS)
    assert control.ask("gv_get_packet_size") == 3000
    control.close()
    with opened("packet=1400") as source:
        whole(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("format=Mono12", "format=Mono12: it has BayerBG8, BayerGB8, BayerGR8, BayerRG8, Mono16, Mono8, RGB8"),
        ("exposure=1", "exposure=1: it takes 10 to 1e+07"),
        ("exposure=auto", "exposure=auto: it has no automatic one"),
        ("gain=-3", "gain=-3: it takes 0 to 10"),
        ("fps=100000", "fps=100000: it takes 0.1 to 1000"),
        ("roi=2000,0,512,512", "roi=2000,0,512,512: the sensor has 2048x2048 pixels"),
        ("levels=0,300", "levels=0,300: Mono8 ends at 255"),
        ("camera_trigger=Line7", "camera_trigger=line7: it has Line0, Software"),
    ],
)
def test_what_the_camera_does_not_take(camera: GigeCamera, options: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        opened(options).__enter__()
    assert message in str(caught.value)
    with opened("fps=25") as source:  # it was given back
        whole(source)


def test_an_id_that_is_not_there_names_those_that_are(camera: GigeCamera) -> None:
    with pytest.raises(
        SourceError, match=f"no GenICam camera Basler-1 to be had .*found: {camera.id}; check its power"
    ):
        open_source("genicam:Basler-1").__enter__()


@pytest.mark.slow
def test_a_camera_that_somebody_else_controls(camera: GigeCamera) -> None:
    holder = AravisCamera(ADDRESS)
    stream = holder.start()
    try:
        with pytest.raises(SourceError) as caught:
            open_source(f"genicam:{ADDRESS}").__enter__()
        assert "another program controls it" in str(caught.value)
    finally:
        stream.close()
        holder.close()


@pytest.mark.slow
def test_a_camera_that_dies_is_away_and_comes_back() -> None:
    with GigeCamera() as camera, GenicamCamera(ADDRESS, QUICK, SMALL) as source:
        frames = iter(source)
        first(frames, lambda record: record.image is not None)
        camera.kill()
        lost = first(frames, lambda record: record.error is not None)
        assert "the camera is away" in (lost.error or "")
        assert not source.connected
        first(frames, lambda record: "no GenICam camera" in (record.error or ""))
        camera.start()
        back = first(frames, lambda record: record.image is not None)
        assert back.image is not None
        assert back.image.shape == (48, 64, 3)  # what it forgot is set again
        assert source.reconnects == 1


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
