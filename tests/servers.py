"""Real servers that tests start, kill and start again, each a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.waiting import until

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # Debian's place for daemons


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Where a program is; the test is skipped where it isn't installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed; run: sh scripts/test_servers.sh")
    return found


def listens(port: int) -> bool:
    """Whether somebody accepts connections at a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ServerProcess:
    """Answers between `start` and `kill`, and forgets everything in between."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether it can be talked to."""
        raise NotImplementedError

    def start(self) -> None:
        name = Path(self._command[0]).name
        self._process = process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def is_up() -> bool:
            assert process.poll() is None, f"{name} ended with {process.returncode}"
            return self.answers()

        until(is_up, name)

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
