from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from simplenet_edge.runtime.line.process import hangups_ignored, memory_returned, notify_systemd, signals_handled
from simplenet_edge.system import resident_bytes
from tests.waiting import until


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


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_full_of_holes_is_given_back() -> None:
    """Blocks too small to have pages of their own, of which every 64th stays: what lies between is free and held."""
    blocks = [bytes(16_000) for _ in range(8_192)]
    kept = blocks[::64]
    full = resident_bytes()
    assert full is not None
    del blocks
    with memory_returned(every_s=0.01):
        until(lambda: (resident_bytes() or 0) < full - 64 * 2**20, "the memory of most blocks")
    assert len(kept) == 128
