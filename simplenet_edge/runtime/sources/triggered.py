"""One verdict a trigger: a live camera of which only the frames are inspected that somebody asks for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.http import Posts, Reply
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.runtime.sources.stdin import stdin_chunks

__all__ = ["HttpTriggered", "StdinTriggered", "Triggered"]

_TICK_S = 0.2
_MOST_WAITING = 64


@dataclass(frozen=True)
class _Trigger:
    """Somebody asked at `asked_s` of `time.monotonic`, and waits with `reply`."""

    asked_s: float
    reply: Reply | None


class Triggered(Source):
    """Of a live camera the first frame whose grab began after each trigger, never an older one.

    Triggers are answered in order. Where no frame comes within `timeout_s` of its turn, the record has an error, so
    that the part is INVALID. `frame_id` counts triggers; a record's time is its trigger's.
    """

    live: ClassVar[bool] = True
    on_demand: ClassVar[bool] = True

    def __init__(self, camera: LiveSource, timeout_s: float = 2.0) -> None:
        super().__init__(camera.name, camera.view)
        self.camera = camera
        self.timeout_s = timeout_s
        self._triggers: queue.Queue[_Trigger | None] = queue.Queue(_MOST_WAITING)
        self._changed = threading.Condition()
        self._newest: tuple[float, FrameRecord] | None = None  # with the time at which its grab began
        camera.listener = self._came

    def fire(self, reply: Reply | None = None) -> None:
        """Ask for a frame; from any thread. `reply` is told what became of it. Raises SourceError when 64 wait."""
        try:
            self._triggers.put_nowait(_Trigger(time.monotonic(), reply))
        except queue.Full:
            raise SourceError(
                f"{_MOST_WAITING} triggers wait for their verdicts already; trigger more slowly"
            ) from None

    def _came(self, began_s: float, record: FrameRecord) -> None:
        with self._changed:
            self._newest = (began_s, record)
            self._changed.notify_all()

    def _open(self) -> None:
        self.camera.__enter__()

    def _close(self) -> None:
        self.stop()
        self.camera.__exit__(None, None, None)

    def stop(self) -> None:
        """Ask the iteration to end; triggers that still wait get no answer."""
        super().stop()
        self.camera.stop()

    def __iter__(self) -> Iterator[FrameRecord]:
        frame_id = 0
        while not self.stopping.is_set():
            self._look_after()
            try:
                trigger = self._triggers.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if trigger is None or (record := self._frame_after(trigger.asked_s)) is None:
                return
            name = f"{self.name}#{frame_id}"
            yield replace(record, frame_id=frame_id, name=name, monotonic_s=trigger.asked_s, reply=trigger.reply)
            frame_id += 1

    def _frame_after(self, asked_s: float) -> FrameRecord | None:
        """The first frame whose grab began after that, or a record that says that none came; None once stopped."""
        end_s = time.monotonic() + self.timeout_s
        while not self.stopping.is_set():
            self._look_after()
            with self._changed:
                if self._newest is not None and self._newest[0] >= asked_s:
                    found, self._newest = self._newest[1], None
                    return found
                left_s = end_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(min(left_s, _TICK_S))
                    continue
            why = f"; the camera is away: {self.camera.away}" if self.camera.away else ""
            return FrameRecord(0, "", utc_now(), None, f"no frame within {self.timeout_s:g} s of the trigger{why}")
        return None

    def _look_after(self) -> None:
        self.camera.look_after()
        self.connected, self.reconnects = self.camera.connected, self.camera.reconnects


class StdinTriggered(Triggered):
    """Each line on standard input is a trigger; where that ends, the source ends, once all are answered."""

    def _open(self) -> None:
        chunks = stdin_chunks(self.stopping, "a line for each trigger")
        super()._open()
        threading.Thread(target=self._read, args=(chunks,), name=f"triggers {self.name}", daemon=True).start()

    def _read(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            for _ in range(chunk.count(b"\n")):
                self._put(_Trigger(time.monotonic(), None))
        self._put(None)

    def _put(self, trigger: _Trigger | None) -> None:
        while not self.stopping.is_set():
            try:
                return self._triggers.put(trigger, timeout=_TICK_S)
            except queue.Full:
                continue


class HttpTriggered(Triggered):
    """Each `POST /trigger` is a trigger, answered with the verdict as JSON."""

    def __init__(self, camera: LiveSource, host: str, port: int, timeout_s: float = 2.0) -> None:
        super().__init__(camera, timeout_s)
        self.posts = Posts(host, port, "/trigger", lambda body, reply: self.fire(reply), 2 * timeout_s + 10)

    def _open(self) -> None:
        super()._open()
        try:
            self.posts.__enter__()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self.posts.__exit__(None, None, None)
        super()._close()
