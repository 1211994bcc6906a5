"""A GigE Vision camera that tests can pull the plug of: Aravis' own, a process on the loopback address."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import tempfile
from types import TracebackType
from typing import TextIO

from tests.runtime.sinks.brokers import program
from tests.waiting import until

ADDRESS = "127.0.0.1"
_PORT = 3956  # of the GigE Vision control protocol, and no other
_DISCOVERY = bytes.fromhex("4201000200000001")


def _answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect((ADDRESS, _PORT))
        try:
            probe.send(_DISCOVERY)
            return len(probe.recv(1024)) > len(_DISCOVERY)
        except OSError:
            return False


class GigeCamera:
    """A context manager: 512x512 pixels, 25 frames per second. `lost` of a thousand packets are not sent.

    It listens between `start` and `kill`, and forgets everything in between. All test processes of a machine share its
    port, one after the other.
    """

    def __init__(self, serial: str = "T1", lost: int = 0) -> None:
        self.id = f"Aravis-Fake-{serial}"
        self._command = [program("arv-fake-gv-camera-0.8"), "-i", ADDRESS, "-s", serial, "-r", str(lost)]
        self._process: subprocess.Popen[bytes] | None = None
        self._turn: TextIO | None = None

    def start(self) -> None:
        until(lambda: not _answers(), "the end of another GigE Vision camera at this address")
        self._process = process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def answers() -> bool:
            assert process.poll() is None, f"the camera ended with {process.returncode}"
            return _answers()

        until(answers, "the camera")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

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
