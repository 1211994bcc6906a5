"""Live cameras that OpenCV opens: V4L2, CSI on a Jetson, IP cameras, any GStreamer pipeline."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources.capture import CaptureDevice, has_gstreamer, open_capture, without_password
from simplenet_edge.runtime.sources.device import Device, LiveSettings
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.runtime.sources.mjpeg import open_mjpeg

__all__ = ["Camera", "NetworkCamera", "PipelineCamera", "csi_pipeline"]

_FPS_SLACK = 0.05  # drivers round, and say 29.97 for 30
_ADVICE = "check the address, the user and password (in them '@' is written %40, '/' %2F, '#' %23), the network"
# With more, FFmpeg holds back a frame per thread. Versions before 4.7 can't be told.
_ONE_THREAD = {cv2.CAP_PROP_N_THREADS: 1} if hasattr(cv2, "CAP_PROP_N_THREADS") else {}
_ENDLESS_MS = 24 * 3600 * 1000


class Camera(LiveSource):
    """A V4L2 device by its path, or OpenCV's number for it.

    `size_wh` and `fps` are asked for; a camera that takes another mode instead is refused. Many USB cameras reach
    their full rate only with `fourcc="MJPG"`.
    """

    def __init__(
        self,
        device: str | int,
        settings: LiveSettings | None = None,
        size_wh: tuple[int, int] | None = None,
        fps: float | None = None,
        fourcc: str | None = None,
    ) -> None:
        super().__init__(device if isinstance(device, str) else f"camera-{device}", settings)
        self._device = device
        self._size_wh, self._fps, self._fourcc = size_wh, fps, fourcc

    def _connect(self) -> CaptureDevice:
        devices = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        advice = (
            f"video devices here: {devices}; check the cable, that no other program holds it, and the group 'video'"
        )
        if isinstance(self._device, str):
            call = f"cv2.VideoCapture({self._device!r}, cv2.CAP_V4L2)"
            device = open_capture(self._device, cv2.CAP_V4L2, call, advice)
        else:
            device = open_capture(self._device, cv2.CAP_ANY, f"cv2.VideoCapture({self._device})", advice)
        try:
            self._choose_mode(device)
        except SourceError:
            device.close()
            raise
        return device

    def _choose_mode(self, device: CaptureDevice) -> None:
        if self._fourcc is not None:
            code = cv2.VideoWriter.fourcc(*self._fourcc)
            if not device.set(cv2.CAP_PROP_FOURCC, code) or int(device.get(cv2.CAP_PROP_FOURCC)) != code:
                raise SourceError(f"{self.name} has no format {self._fourcc}; see v4l2-ctl --list-formats-ext")
        if self._size_wh is not None:
            device.set(cv2.CAP_PROP_FRAME_WIDTH, self._size_wh[0])
            device.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size_wh[1])
            found = int(device.get(cv2.CAP_PROP_FRAME_WIDTH)), int(device.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if found != self._size_wh:
                raise SourceError(
                    f"{self.name} gives {found[0]}x{found[1]} where {self._size_wh[0]}x{self._size_wh[1]} was asked "
                    "for; choose a size that v4l2-ctl --list-formats-ext names"
                )
        if self._fps is not None:
            device.set(cv2.CAP_PROP_FPS, self._fps)
            rate = device.get(cv2.CAP_PROP_FPS)
            if abs(rate - self._fps) > _FPS_SLACK * self._fps:
                raise SourceError(
                    f"{self.name} gives {rate:g} frames per second where {self._fps:g} was asked for; choose a rate "
                    "that v4l2-ctl --list-formats-ext names, or try fourcc=MJPG"
                )


class NetworkCamera(LiveSource):
    """An IP camera by its RTSP or HTTP address. MJPEG over HTTP is read here, so that damaged pictures are told from
    whole ones; all else (HLS too) by FFmpeg, RTSP over TCP where the camera has it.

    One decoding thread: FFmpeg's others would each hold a frame back.
    """

    def __init__(self, url: str, settings: LiveSettings | None = None) -> None:
        parts = urlsplit(without_password(url))
        super().__init__(f"{parts.hostname or ''}{parts.path}".rstrip("/"), settings)
        self._url = url

    def _connect(self) -> Device:
        silence_s = self.settings.silence_s
        if self._url.startswith(("http://", "https://")):
            timeout_s = None if silence_s == math.inf else silence_s
            mjpeg = open_mjpeg(self._url, timeout_s, _ADVICE, self._passed_over)
            if mjpeg is not None:
                return mjpeg
        timeout_ms = _ENDLESS_MS if silence_s == math.inf else max(1, round(silence_s * 1000))
        device = open_capture(
            self._url,
            cv2.CAP_FFMPEG,
            f"cv2.VideoCapture({without_password(self._url)!r}, cv2.CAP_FFMPEG)",
            f"{_ADVICE}, and that ffprobe reads it",
            {
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: timeout_ms,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC: timeout_ms,
                **_ONE_THREAD,
            },
        )
        if self._url.startswith(("rtsp://", "rtsps://")):
            device.catch_up()
        return device


class PipelineCamera(LiveSource):
    """A GStreamer pipeline that ends in an appsink with BGR frames."""

    def __init__(self, name: str, pipeline: str, settings: LiveSettings | None = None) -> None:
        super().__init__(name, settings)
        if "appsink" not in pipeline.replace("!", " ").split():
            raise SourceError(
                f"gst:{without_password(pipeline)}: the pipeline must end in an appsink, e.g. '… ! videoconvert ! "
                "video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false'"
            )
        self.pipeline = pipeline

    def _open(self) -> None:
        if not has_gstreamer():  # no patience helps
            raise SourceError(
                f"{self.name} needs an OpenCV built with GStreamer, and OpenCV {cv2.__version__} here was built "
                "without: use the system's python3-opencv (JetPack brings one) in place of pip's opencv-python; it "
                f"would open {self._call}"
            )
        super()._open()

    @property
    def _call(self) -> str:
        return f"cv2.VideoCapture({without_password(self.pipeline)!r}, cv2.CAP_GSTREAMER)"

    def _connect(self) -> CaptureDevice:
        advice = "try the pipeline with gst-launch-1.0, fakesink in place of appsink"
        return open_capture(self.pipeline, cv2.CAP_GSTREAMER, self._call, advice)


def csi_pipeline(sensor_id: int, size_wh: tuple[int, int] = (1920, 1080), fps: float = 30.0) -> str:
    """The pipeline of a CSI camera on a Jetson: through its image processor, and only the newest frame kept."""
    rate = Fraction(fps).limit_denominator(1001)
    return (
        f"nvarguscamerasrc sensor-id={sensor_id} ! video/x-raw(memory:NVMM),format=NV12,width={size_wh[0]},"
        f"height={size_wh[1]},framerate={rate.numerator}/{rate.denominator} ! nvvidconv ! video/x-raw,format=BGRx ! "
        "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )
