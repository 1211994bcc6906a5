"""Settings and frames, against Aravis' own GigE Vision camera, a process; skipped where it isn't installed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import (
    open_source,
)
from simplenet_edge.runtime.sources.aravis import AravisCamera
from tests.runtime.sources.gige_camera import ADDRESS, GigeCamera, opened, whole


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
