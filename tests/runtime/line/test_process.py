from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from simplenet_edge.runtime.line.process import hangups_ignored, notify_systemd, signals_handled


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), threading.Event()
    with signals_handled(stop):
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_hangup_calls_in_a_thread() -> None:
    called, names = threading.Event(), []

    def on_hangup() -> None:
        names.append(threading.current_thread().name)
        called.set()

    with signals_handled(threading.Event(), on_hangup):
        os.kill(os.getpid(), signal.SIGHUP)
        assert called.wait(10)
    assert names == ["hangup"]


def test_a_hangup_before_the_line_runs_ends_nothing_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    before, called = signal.getsignal(signal.SIGHUP), threading.Event()
    with hangups_ignored():
        signal.raise_signal(signal.SIGHUP)
        assert "nothing is swapped" in caplog.text
        with signals_handled(threading.Event(), called.set):
            signal.raise_signal(signal.SIGHUP)
            assert called.wait(10)
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is before


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify_systemd("READY=1")
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify_systemd("READY=1")
        assert manager.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify_systemd("WATCHDOG=1")
