"""A GigE Vision camera that tests can pull the plug of: Aravis' own, a process on the loopback address."""

from __future__ import annotations

import fcntl
import math
import os
import socket
import tempfile
from types import TracebackType
from typing import TextIO

from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources import GenicamSettings, LiveSettings, Source, open_source
from tests.runtime.sources.ip_camera import first
from tests.servers import ServerProcess, program
from tests.waiting import until

ADDRESS = "127.0.0.1"
_PORT = 3956  # of the GigE Vision control protocol, and no other
_DISCOVERY = bytes.fromhex("4201000200000001")

QUICK = LiveSettings(silence_s=1.0, frozen_s=math.inf, black=False, backoff_s=(0.05, 0.2), report_s=0.1)
SMALL = GenicamSettings(roi_xywh=(0, 0, 64, 48), pixel_format="Mono8", exposure_us=10_000, gain=0)


def _answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect((ADDRESS, _PORT))
        try:
            probe.send(_DISCOVERY)
            return len(probe.recv(1024)) > len(_DISCOVERY)
        except OSError:
            return False


class GigeCamera(ServerProcess):
    """A context manager: 512x512 pixels, 25 frames per second. `lost` of a thousand packets are not sent.

    All test processes of a machine share its port, one after the other.
    """

    def __init__(self, serial: str = "T1", lost: int = 0) -> None:
        self.id = f"Aravis-Fake-{serial}"
        super().__init__([program("arv-fake-gv-camera-0.8"), "-i", ADDRESS, "-s", serial, "-r", str(lost)])
        self._turn: TextIO | None = None

    def answers(self) -> bool:
        return _answers()

    def start(self) -> None:
        until(lambda: not _answers(), "the end of another GigE Vision camera at this address")
        super().start()

    def __enter__(self) -> GigeCamera:
        self._turn = open(os.path.join(tempfile.gettempdir(), "gige-camera-of-tests.lock"), "w")
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._turn is not None:
            self._turn.close()


def opened(options: str) -> Source:
    """The camera with the settings of `SMALL`, and with these."""
    settled = {"roi": "0,0,64,48", "format": "Mono8", "exposure": "10000", "gain": "0", "fps": "25", "frozen": "off"}
    given = dict(option.split("=") for option in options.split("&"))
    return open_source(f"genicam:{ADDRESS}#" + "&".join(f"{key}={value}" for key, value in (settled | given).items()))


def whole(source: Source) -> FrameRecord:
    return first(source.frames(), lambda record: record.image is not None)
