"""One verdict a trigger: a live camera of which only the frames are inspected that somebody asks for."""

from __future__ import annotations

import threading
import time
from collections import deque
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
_MOST_WAITING = 16  # with their images, which may be large
_MOST_REFUSED = 1024
_VERDICT_S = 10.0
_MOST_BYTES = 65536  # of a request, which nobody reads


@dataclass(frozen=True)
class _Trigger:
    """Somebody asked at `asked_s` of `time.monotonic`, and waits with `reply`. `refused`: it gets no frame."""

    asked_s: float
    reply: Reply | None
    refused: str | None = None


class Triggered(Source):
    """Of a live camera the first frame whose grab began after each trigger, however busy the line is.

    Triggers are answered in order. Where no frame comes within `timeout_s`, the record has an error, so that the part
    is INVALID. `frame_id` counts triggers; a record's time is its trigger's.
    """

    live: ClassVar[bool] = True
    on_demand: ClassVar[bool] = True

    def __init__(self, camera: LiveSource, timeout_s: float = 2.0) -> None:
        super().__init__(camera.name, camera.view)
        self.camera = camera
        self.timeout_s = timeout_s
        self._changed = threading.Condition()  # guards all below
        self._asked: deque[_Trigger] = deque()  # without a frame yet
        self._ready: deque[tuple[_Trigger, FrameRecord]] = deque()
        self._last_asked = False
        camera.listener = self._came

    def fire(self, reply: Reply | None = None) -> None:
        """Ask for a frame; from any thread. `reply` is called with the result. Raises SourceError when 16 wait."""
        with self._changed:
            if len(self._asked) + len(self._ready) >= _MOST_WAITING:
                raise SourceError(f"{_MOST_WAITING} triggers wait for their verdicts already; trigger more slowly")
            self._asked.append(_Trigger(time.monotonic(), reply))
        self.camera.request_frame()

    def _came(self, began_s: float, record: FrameRecord) -> None:
        """The camera's thread brings a frame: for every trigger before its grab."""
        with self._changed:
            self._give_up()
            while self._asked and self._asked[0].asked_s <= began_s:
                self._ready.append((self._asked.popleft(), record))
                self._give_up()
            self._changed.notify_all()

    def _give_up(self) -> None:
        """Error records for the triggers whose turn it is and that get no frame."""
        while self._asked:
            trigger = self._asked[0]
            why = trigger.refused
            if why is None and time.monotonic() - trigger.asked_s > self.timeout_s:
                away = self.camera.away
                why = f"no frame within {self.timeout_s:g} s of the trigger"
                why += f"; the camera is away: {away}" if away else ""
            if why is None:
                return
            self._ready.append((self._asked.popleft(), FrameRecord(0, "", utc_now(), None, why)))

    def _open(self) -> None:
        self.camera.patient = self.patient
        self.camera.__enter__()

    def _close(self) -> None:
        self.stop()
        self.camera.__exit__(None, None, None)

    def stop(self) -> None:
        """Ask the iteration to end; triggers that still wait get no answer."""
        super().stop()
        self.camera.stop()

    def __iter__(self) -> Iterator[FrameRecord]:
        if not self.camera.is_open:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        frame_id = 0
        while not self.stopping.is_set():
            self.camera.look_after()
            self.connected, self.reconnects = self.camera.connected, self.camera.reconnects
            with self._changed:
                self._give_up()
                if not self._ready:
                    if self._last_asked and not self._asked:
                        return
                    self._changed.wait(_TICK_S)
                    continue
                trigger, record = self._ready.popleft()
            name = f"{self.name}#{frame_id}"
            yield replace(record, frame_id=frame_id, name=name, monotonic_s=trigger.asked_s, reply=trigger.reply)
            frame_id += 1


class StdinTriggered(Triggered):
    """Each line on standard input is a trigger; where that ends, the source ends, once all are answered.

    A line that comes while 16 wait is INVALID: its part has passed before its turn.
    """

    def _open(self) -> None:
        super()._open()
        try:
            chunks = stdin_chunks(self.stopping, "a line for each trigger")
        except SourceError:
            self._close()
            raise
        threading.Thread(target=self._read, args=(chunks,), name=f"triggers {self.name}", daemon=True).start()

    def _read(self, chunks: Iterator[bytes]) -> None:
        is_begun = False  # a line without its end
        for chunk in chunks:
            is_begun = not chunk.endswith(b"\n")
            self._fire_each(chunk.count(b"\n"))
        self._fire_each(is_begun)
        with self._changed:
            self._last_asked = True

    def _fire_each(self, count: int) -> None:
        for _ in range(count):
            try:
                self.fire()
            except SourceError as error:
                self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        while not self.stopping.is_set():
            with self._changed:
                if len(self._asked) + len(self._ready) < _MOST_REFUSED:
                    return self._asked.append(_Trigger(time.monotonic(), None, why))
            self.stopping.wait(_TICK_S)


class HttpTriggered(Triggered):
    """Each `POST /trigger` is a trigger, answered with the verdict as JSON."""

    def __init__(self, camera: LiveSource, host: str, port: int, timeout_s: float = 2.0) -> None:
        super().__init__(camera, timeout_s)
        self.posts = Posts(
            host,
            port,
            "/trigger",
            lambda body, reply: self.fire(reply),
            answer_s=timeout_s + _VERDICT_S,
            most=2 * _MOST_WAITING,
            max_bytes=_MOST_BYTES,
        )

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
