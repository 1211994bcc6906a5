from __future__ import annotations

import re

import cv2
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import Camera, NetworkCamera, PipelineCamera, capture, open_source
from simplenet_edge.runtime.sources.cameras import csi_pipeline
from simplenet_edge.runtime.sources.capture import CaptureDevice, has_gstreamer, without_password
from tests.runtime.sources.ip_camera import IMPATIENT, IpCamera, first

pytestmark = pytest.mark.slow


def test_a_camera_that_dies_is_invalid_at_once_and_comes_back() -> None:
    with IpCamera() as camera, NetworkCamera(camera.url, IMPATIENT) as source:
        frames = iter(source)
        record = first(frames, lambda record: record.image is not None)
        assert record.image is not None
        assert record.image.shape == (48, 64, 3)
        camera.die()
        lost = first(frames, lambda record: record.error is not None)
        assert "the camera is away: it stopped giving frames" in (lost.error or "")
        assert not source.connected
        again = first(frames, lambda record: "could not open" in (record.error or ""))
        assert camera.url in (again.error or "")
        camera.revive()
        back = first(frames, lambda record: record.image is not None)
        assert source.connected
        assert source.reconnects == 1
        assert record.frame_id < lost.frame_id < again.frame_id < back.frame_id


def test_a_camera_that_hangs_is_invalid_and_comes_back() -> None:
    with IpCamera() as camera, NetworkCamera(camera.url, IMPATIENT) as source:
        frames = iter(source)
        first(frames, lambda record: record.image is not None)
        camera.mode = "hang"
        lost = first(frames, lambda record: record.error is not None)
        assert re.search("no frame for|stopped giving frames", lost.error or "")
        first(frames, lambda record: record.error is not None)
        assert not source.connected
        camera.mode = "noise"
        first(frames, lambda record: record.image is not None)
        assert source.connected
        assert source.reconnects == 1


@pytest.mark.parametrize(("mode", "reason"), [("freeze", "repeats the same picture"), ("black", "is black")])
def test_pictures_that_no_camera_gives_are_invalid(mode: str, reason: str) -> None:
    with IpCamera() as camera, NetworkCamera(camera.url, IMPATIENT) as source:
        frames = iter(source)
        first(frames, lambda record: record.image is not None)
        camera.mode = mode
        fault = first(frames, lambda record: record.error is not None)
        assert reason in (fault.error or "")
        assert fault.image is None
        assert source.connected  # it gives frames, only no good ones
        camera.mode = "noise"
        first(frames, lambda record: record.image is not None)


def test_a_camera_that_is_not_there_at_the_start_is_an_error() -> None:
    with IpCamera() as camera:
        url = camera.url
    secret = url.replace("//", "//user:secret@")
    with pytest.raises(SourceError, match="could not open") as caught:
        NetworkCamera(secret, IMPATIENT).__enter__()
    assert url.removeprefix("http://") in str(caught.value)
    assert "secret" not in str(caught.value)


def test_names_hold_no_password() -> None:
    assert NetworkCamera("rtsp://user:se%40cret@10.0.0.7:554/ch1?sub=1").name == "10.0.0.7/ch1"
    assert NetworkCamera("rtsp://user:sec/ret@10.0.0.7/ch1").name == "10.0.0.7/ch1"
    assert NetworkCamera("http://10.0.0.7/cgi/video?user=a&pwd=secret").name == "10.0.0.7/cgi/video"
    assert without_password("rtsp://user:s@cret@host/1") == "rtsp://***@host/1"
    assert without_password("rtsp://user:two words@host/1") == "rtsp://***@host/1"
    assert without_password("rtsp:/user:secret@host/1") == "rtsp:/***@host/1"
    assert without_password("rtsp://user:secret\nline@host/1") == "rtsp://***@host/1"
    assert without_password("http://h/v?user=a&PWD=secret&fps=3") == "http://h/v?user=***&PWD=***&fps=***"
    assert without_password("http://h/v?auth=abc") == "http://h/v?auth=***"
    assert without_password('souphttpsrc user-pw="a b" ! x') == "souphttpsrc user-pw=*** ! x"
    assert without_password("rtspsrc location=rtsp://u:p@h/1 user-pw=secret ! appsink") == (
        "rtspsrc location=rtsp://***@h/1 user-pw=*** ! appsink"
    )


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("v4l2:///dev/video77", r"cv2\.VideoCapture\('/dev/video77', cv2\.CAP_V4L2\); video devices here"),
        ("77", r"could not open cv2\.VideoCapture\(77\)"),
        ("77#size=1920x1080&fps=30&fourcc=MJPG", r"could not open cv2\.VideoCapture\(77\)"),
    ],
)
def test_devices_that_are_not_there(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(uri).__enter__()


class TakesAnything(CaptureDevice):
    """A driver that takes every wish and gives 640x480 at 10 frames per second."""

    def __init__(self) -> None:
        super().__init__(cv2.VideoCapture())

    def get(self, property_id: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0, cv2.CAP_PROP_FPS: 10.0}.get(
            property_id, 0.0
        )

    def set(self, property_id: int, value: float) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_wh": (1920, 1080)}, "gives 640x480 where 1920x1080 was asked for"),
        ({"fps": 30.0}, "gives 10 frames per second where 30 was asked for"),
        ({"fourcc": "MJPG"}, "has no format MJPG"),
        ({"size_wh": (640, 480), "fps": 10.1}, None),
    ],
)
def test_a_camera_that_takes_another_mode_is_refused(options: dict[str, object], message: str | None) -> None:
    camera = Camera(0, **options)  # type: ignore[arg-type]
    if message is None:
        camera._choose_mode(TakesAnything())
        return
    with pytest.raises(SourceError, match=message):
        camera._choose_mode(TakesAnything())


def test_the_pipeline_of_a_csi_camera() -> None:
    source = open_source("csi://1#size=1280x720&fps=59.94&name=top")
    assert isinstance(source, PipelineCamera)
    assert source.name == "top"
    assert source.pipeline == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,"
        "framerate=2997/50 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    assert "width=1920,height=1080,framerate=30/1 !" in csi_pipeline(0)


@pytest.mark.parametrize(
    ("uri", "pipeline"),
    [
        ("csi://0", csi_pipeline(0)),
        ("gst:videotestsrc ! videoconvert ! appsink", "videotestsrc ! videoconvert ! appsink"),
    ],
)
def test_without_gstreamer_the_error_names_what_is_missing_and_the_pipeline(
    uri: str, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Video I/O:\n    GStreamer:                   NO\n")
    with pytest.raises(SourceError, match="needs an OpenCV built with GStreamer") as caught:
        open_source(uri).__enter__()
    assert pipeline in str(caught.value)


def test_with_gstreamer_a_pipeline_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    built = "    GStreamer:                   YES (1.20.3)\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: built)
    assert has_gstreamer()
    with pytest.raises(SourceError, match=r"could not open cv2\.VideoCapture\('nosuchsrc ! appsink', cv2\.CAP_GST"):
        open_source("gst:nosuchsrc ! appsink").__enter__()


def test_capture_errors_are_source_errors() -> None:
    with pytest.raises(SourceError, match="could not open it; look"):
        capture.open_capture("/nowhere", cv2.CAP_FFMPEG, "it", "look")
