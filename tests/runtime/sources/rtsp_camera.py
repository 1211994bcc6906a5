"""An RTSP camera that tests can pull the plug of: GStreamer's server, a process of the system's Python."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from simplenet_edge.spec import Frames
from tests.servers import ServerProcess, free_port, listens

SYSTEM_PYTHON = "/usr/bin/python3"
_SERVER = Path(__file__).with_name("serve_rtsp.py")
_NEEDED = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert Gst.ElementFactory.find("x264enc") or Gst.ElementFactory.find("openh264enc"), "an H.264 encoder"
assert Gst.ElementFactory.find("rtph264pay") and Gst.ElementFactory.find("h264parse"), "plugins for H.264"
"""


def system_python(program: str, what: str) -> None:
    """Skip the test where the system's Python can't run this."""
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"{what}: {error}")
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:]
        pytest.skip(f"{what} is not to be had ({' '.join(reason)}); run: sh scripts/test_servers.sh")


class RtspCamera(ServerProcess):
    """A context manager. Of a thousand packets `lost` are not sent, and then it takes UDP alone."""

    def __init__(self, fps: int = 20, lost: int = 0) -> None:
        system_python(_NEEDED, "GStreamer's RTSP server")
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/line"
        super().__init__([SYSTEM_PYTHON, _SERVER, str(self.port), str(fps), str(lost)])

    def answers(self) -> bool:
        return listens(self.port)

    def hang(self, hangs: bool) -> None:
        self.send_signal(signal.SIGSTOP if hangs else signal.SIGCONT)

    def __enter__(self) -> RtspCamera:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def drawn_ms(image: Frames) -> int:
    """The milliseconds of the monotonic clock, modulo 2**32, that are drawn into a picture."""
    blocks = image[8:56].reshape(48, 32, 8, 3)[:, :, 2:6].mean(axis=(0, 2, 3))
    return int("".join("1" if level > 140 else "0" for level in blocks), 2)
