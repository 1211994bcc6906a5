"""An IP camera that tests can pull the plug of: MJPEG over HTTP, on a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import cv2
import numpy as np

from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources import LiveSettings, LiveSource
from tests.servers import ServerProcess
from tests.waiting import SOON_S

"""More than anything here takes on a busy machine."""

IMPATIENT = LiveSettings(silence_s=2.0, frozen_s=0.3, backoff_s=(0.05, 0.2), report_s=0.1)

_PERIOD_S = 0.02
_HW = (48, 64)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    camera: IpCamera

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is the point."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        camera = self.server.camera
        if camera.authorization and self.headers.get("Authorization") != camera.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        rng = np.random.default_rng()
        while camera.alive.is_set():
            if camera.mode != "hang":
                level, spread = (0, 2) if camera.mode == "black" else (100, 40)
                seed = rng if camera.mode != "freeze" else np.random.default_rng(0)
                image = seed.integers(level, level + spread, (*_HW, 3), dtype=np.uint8)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                middle = len(jpeg) // 2
                if camera.mode == "cut":
                    jpeg = jpeg[:middle]
                elif camera.mode == "zeros":
                    jpeg = jpeg[:middle] + bytes(200) + jpeg[middle + 200 :]
                length = f"Content-Length: {len(jpeg)}\r\n" if camera.says_length else ""
                head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(_PERIOD_S)

    def log_message(self, format: str, *args: object) -> None:
        pass


class IpCamera:
    """A context manager; `mode` is noise, freeze, black or hang, or what each picture is: cut, zeros (in its middle).

    Nobody listens between `die` and `revive`.
    """

    def __init__(self, authorization: str = "", says_length: bool = True) -> None:
        self.mode = "noise"
        self.authorization = authorization  # the header that a client must send
        self.says_length = says_length
        self.alive = threading.Event()
        self.port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def revive(self) -> None:
        self.alive.set()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.camera = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def die(self) -> None:
        self.alive.clear()
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()

    def __enter__(self) -> IpCamera:
        self.revive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()


def first(frames: object, found: Callable[[FrameRecord], bool]) -> FrameRecord:
    """The first record of an iterator that is it."""
    end_s = time.monotonic() + SOON_S
    for record in frames:  # type: ignore[attr-defined]
        if found(record):
            assert isinstance(record, FrameRecord)
            return record
        assert time.monotonic() < end_s, "it never came"
    raise AssertionError("the source ended")


def dies_and_returns(camera: ServerProcess, source: LiveSource, lost: str, refused: str) -> FrameRecord:
    """Kill a camera that gives frames and start it again; the first frame after that.

    `lost` is in the reason of the first record that it is away, `refused` in that of a later one.
    """
    frames = iter(source)
    first(frames, lambda record: record.image is not None)
    camera.kill()
    gone = first(frames, lambda record: record.error is not None)
    assert lost in (gone.error or "")
    assert not source.connected
    first(frames, lambda record: refused in (record.error or ""))
    camera.start()
    back = first(frames, lambda record: record.image is not None)
    assert (source.connected, source.reconnects) == (True, 1)
    return back
