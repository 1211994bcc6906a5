"""One verdict a trigger: a live camera of which only the frames are inspected that somebody asks for."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.runtime.records import FrameRecord, Part
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.http import Posts, Reply
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.runtime.sources.stdin import stdin_chunks

__all__ = ["HttpTriggered", "StdinTriggered", "Triggered"]

_TICK_S = 0.2
_MOST_WAITING = 16  # with their images, which may be large
_MOST_REFUSED = 1024
_VERDICT_S = 10.0
_MOST_BYTES = 65536  # of a request, which nobody reads, and of a line
_SHOWN = 40  # bytes of a line that can't be read


@dataclass(frozen=True)
class _Trigger:
    """Somebody asked at `asked_s` of `time.monotonic`, and waits with `reply`. `refused`: it gets no frame."""

    asked_s: float
    reply: Reply | None
    part: Part
    refused: str | None = None


class Triggered(Source):
    """Of a live camera the first frame whose grab began after each trigger, however busy the line is.

    Triggers are answered in order. Where no frame comes within `timeout_s`, the record has an error, so that the part
    is INVALID. `frame_id` counts triggers; a record's time is its trigger's.
    """

    live: ClassVar[bool] = True
    on_demand: ClassVar[bool] = True
    verdict_s: float = math.inf
    """From a trigger to when its verdict is too late."""

    def __init__(self, camera: LiveSource, timeout_s: float = 2.0) -> None:
        super().__init__(camera.name, camera.view)
        self.camera = camera
        self.timeout_s = timeout_s
        self._changed = threading.Condition()  # guards all below
        self._asked: deque[_Trigger] = deque()  # without a frame yet
        self._ready: deque[tuple[_Trigger, FrameRecord]] = deque()
        self._last_asked = False
        camera.listener = self._came

    def fire(self, reply: Reply | None = None, part: Part | None = None) -> None:
        """Ask for a frame of a part; from any thread. `reply` is called with the result.

        Raises SourceError when 16 wait.
        """
        with self._changed:
            if len(self._asked) + len(self._ready) >= _MOST_WAITING:
                raise SourceError(f"{_MOST_WAITING} triggers wait for their verdicts already; trigger more slowly")
            self._asked.append(_Trigger(time.monotonic(), reply, part or Part()))
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
            record = replace(record, frame_id=frame_id, name=name, monotonic_s=trigger.asked_s)
            due_s = trigger.asked_s + self.verdict_s
            yield replace(record, part=trigger.part, due_s=due_s, reply=trigger.reply)
            frame_id += 1


class StdinTriggered(Triggered):
    """Each line on standard input is a trigger, `[PART_ID[<tab>RECIPE]]`; where that ends, the source ends, once all
    are answered.

    A line that comes while 16 wait is INVALID: its part has passed before its turn. So is one that can't be read.
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
        begun = b""  # a line without its end, of which more is never kept than is read
        for chunk in chunks:
            *lines, begun = (begun + chunk).split(b"\n")
            begun = begun[:_MOST_BYTES]
            for line in lines:
                self._fire_line(line)
        if begun:
            self._fire_line(begun)
        with self._changed:
            self._last_asked = True

    def _fire_line(self, line: bytes) -> None:
        part = Part()
        try:
            part = _part(line)
            self.fire(None, part)
        except (DataError, SourceError) as error:
            self._refuse(str(error), part)

    def _refuse(self, why: str, part: Part) -> None:
        while not self.stopping.is_set():
            with self._changed:
                if len(self._asked) + len(self._ready) < _MOST_REFUSED:
                    return self._asked.append(_Trigger(time.monotonic(), None, part, why))
            self.stopping.wait(_TICK_S)


def _part(line: bytes) -> Part:
    """What a line on standard input says of the part. Raises DataError."""
    try:
        part_id, _, recipe = line.decode().partition("\t")
    except UnicodeDecodeError:
        raise DataError(f"expected a part id in UTF-8, found {line[:_SHOWN]!r}") from None
    return Part(part_id.strip() or None, recipe.strip() or None)


class HttpTriggered(Triggered):
    """Each `POST /trigger?part_id=...&recipe=...` is a trigger, answered with the verdict as JSON."""

    def __init__(self, camera: LiveSource, host: str, port: int, timeout_s: float = 2.0) -> None:
        super().__init__(camera, timeout_s)
        self.posts = Posts(
            host,
            port,
            "/trigger",
            lambda body, part, reply: self.fire(reply, part),
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
