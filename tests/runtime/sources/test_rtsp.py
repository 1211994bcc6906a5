"""H.264 from a real RTSP server; skipped where GStreamer's isn't installed."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from simplenet_edge.runtime.sources import LiveSettings, NetworkCamera, open_source
from tests.runtime.sources.ip_camera import dies_and_returns, first
from tests.runtime.sources.rtsp_camera import RtspCamera, drawn_ms

pytestmark = pytest.mark.slow

QUICK = LiveSettings(silence_s=2.0, backoff_s=(0.05, 0.2), report_s=0.1)


def test_frames_come_in_order_and_their_age_is_known() -> None:
    with RtspCamera() as camera, open_source(f"{camera.url}#name=belt") as source:
        frames = source.frames()
        opened_ms = int(time.monotonic() * 1000) % 2**32
        ages: list[int] = []
        times: list[int] = []
        while len(times) < 80:
            record = next(frames)
            assert record.error is None
            assert record.image is not None
            assert (record.image.shape, record.camera) == ((64, 256, 3), "belt")
            times.append(drawn_ms(record.image))
            ages.append(int(record.monotonic_s * 1000) % 2**32 - times[-1])
    assert all(before < after for before, after in pairwise(times))
    assert times[0] > opened_ms - 500  # not what FFmpeg had taken in while it looked at the stream
    # FFmpeg knows that a frame is over when the next begins, so that a picture is a period old at least.
    print(f"20 per second: pictures are {np.median(ages[-40:]):.0f} ms old, the first {ages[0]} ms")  # noqa: T201


def test_a_server_that_dies_is_invalid_at_once_and_comes_back() -> None:
    with RtspCamera() as camera, NetworkCamera(camera.url, QUICK) as source:
        dies_and_returns(camera, source, "the camera is away: it stopped giving frames", "could not open")


def test_a_server_that_hangs_is_away_and_comes_back() -> None:
    with RtspCamera() as camera, NetworkCamera(camera.url, QUICK) as source:
        frames = iter(source)
        first(frames, lambda record: record.image is not None)
        camera.hang(True)
        lost = first(frames, lambda record: record.error is not None)
        assert "the camera is away: " in (lost.error or "")
        assert not source.connected
        camera.hang(False)
        first(frames, lambda record: record.image is not None)
        assert source.connected


def test_lost_packets_over_udp_leave_no_trace_but_frames_that_are_missing() -> None:
    """As docs/line.md says: FFmpeg conceals them."""
    with RtspCamera(lost=200) as camera, NetworkCamera(camera.url, QUICK) as source:
        frames = iter(source)
        first(frames, lambda record: record.image is not None)
        records = [first(frames, lambda record: record.image is not None) for _ in range(60)]
        assert source.connected
    gaps = [
        drawn_ms(after.image) - drawn_ms(before.image)
        for before, after in pairwise(records)
        if before.image is not None and after.image is not None and after.frame_id == before.frame_id + 1
    ]
    assert max(gaps) > 1.5 * 1000 / 20
