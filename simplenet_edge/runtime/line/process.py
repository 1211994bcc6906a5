"""Signals and the service manager: a clean end on SIGTERM and Ctrl-C, a swap on SIGHUP, systemd's notifications."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["hangups_ignored", "notify_systemd", "signals_handled", "switching_fast"]

_log = logging.getLogger(__name__)

_SWITCH_S = 0.0005  # `benchmarks/soak.py`: 96 % of the engine's own speed, and 93 % with Python's 5 ms


@contextmanager
def signals_handled(stop: threading.Event, on_hangup: Callable[[], object] | None = None) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`, a second one raises KeyboardInterrupt; SIGHUP calls `on_hangup` in a thread.

    However many hangups come while it runs, it runs once more.

    Only the main thread can arrange that; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = threading.Event()  # by a signal; `stop` may have been set otherwise

    def on_stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        stop.set()

    waiting, running = threading.Semaphore(), threading.Lock()

    def answer_hup() -> None:
        assert on_hangup is not None
        with running:
            waiting.release()
            on_hangup()

    def on_hup(number: int, frame: FrameType | None) -> None:
        if waiting.acquire(blocking=False):
            threading.Thread(target=answer_hup, name="hangup", daemon=True).start()

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]]
    handlers = {signal.SIGINT: on_stop, signal.SIGTERM: on_stop}
    if on_hangup is not None and hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = on_hup
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)


@contextmanager
def hangups_ignored() -> Iterator[None]:
    """A SIGHUP inside, before there is a model to swap, ends nothing; the log says that it came."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield
        return

    def on_hup(number: int, frame: FrameType | None) -> None:
        _log.warning("SIGHUP came before the line runs: nothing is swapped")

    previous = signal.signal(signal.SIGHUP, on_hup)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous if previous is not None else signal.SIG_DFL)


@contextmanager
def switching_fast() -> Iterator[None]:
    """Let threads take turns in Python ten times as often: the one that runs the engine waits for the others less."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def notify_systemd(state: str) -> bool:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` ... to systemd (sd_notify); False where it did not start this."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1)
            sender.sendto(state.encode(), target)
    except OSError:
        return False
    return True
