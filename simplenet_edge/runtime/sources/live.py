"""Live cameras: a thread grabs without pause, whoever reads gets the newest frame, and faults become records."""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.runtime.backoff import Backoff
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.device import Device, EndOfFrames, LiveSettings, Shot
from simplenet_edge.runtime.sources.image_check import ImageCheck
from simplenet_edge.spec import Frames

__all__ = ["LiveSource"]

_log = logging.getLogger(__name__)

_TICK_S = 0.2  # how often a wait looks up
_JOIN_S = 2.0
_MOST_LEFT_BEHIND = 2  # threads that hang in a driver
_MOST_PARTS = 16  # that wait with their images
_MOST_WAITING = 1024


class LiveSource(Source):
    """A live camera. Frames that nobody took in time are overwritten; `dropped` counts them.

    Where `on_demand` says that each frame was asked for, they wait instead; those for which there is no room lose their
    image and are errors.

    `frame_id` counts everything that came: frames taken, dropped ones, and records that say that the camera is away.
    """

    live = True

    def __init__(self, name: str, settings: LiveSettings | None = None) -> None:
        super().__init__(name)
        self.settings = settings or LiveSettings()
        self.dropped = 0
        self.listener: Callable[[float, FrameRecord], None] | None = None
        """Takes each frame, with the `time.monotonic` at which its grab began, instead of whoever iterates."""
        self._changed = threading.Condition()  # guards all below
        self._next_id = 0
        self._n_given = 0
        self._frames: deque[FrameRecord] = deque(maxlen=_MOST_WAITING)
        self._loss: FrameRecord | None = None
        self._away = ""
        self._told_s = self._came_s = self._lost_s = 0.0
        self._busy_s = math.inf  # when the grabber began to wait for the driver
        self._ended = False
        self._bug: Exception | None = None
        self._grabber: threading.Thread | None = None
        self._left_behind: list[threading.Thread] = []

    @abstractmethod
    def _connect(self) -> Device:
        """Open the camera. Raises SourceError."""

    def _shot(self, device: Device) -> Shot:
        """What the camera says of the frame that was read last, or that could not be."""
        return Shot()

    def request_frame(self) -> None:
        """Somebody waits for a frame from now; for a camera that has to be triggered. From any thread."""

    @property
    def is_open(self) -> bool:
        """Whether it grabs."""
        return self._grabber is not None

    @property
    def away(self) -> str:
        """Why the camera is away; empty while it gives frames."""
        with self._changed:
            return self._away

    def _open(self) -> None:
        device = None if self.patient else self._connect()
        self._came_s = time.monotonic()
        self._start(device)

    def _start(self, device: Device | None) -> None:
        self._busy_s = time.monotonic()
        self._grabber = threading.Thread(target=self._grab, args=(device,), name=f"grab {self.name}", daemon=True)
        self._grabber.start()

    def _close(self) -> None:
        self.stop()
        with self._changed:
            grabber, self._grabber = self._grabber, None
        if grabber is not None:
            grabber.join(_JOIN_S)
            if grabber.is_alive():
                _log.warning("%s: the driver doesn't return; its thread is left behind", self.name)

    def __iter__(self) -> Iterator[FrameRecord]:
        if not self.is_open:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        while (record := self._next()) is not None:
            yield record

    def _next(self) -> FrameRecord | None:
        with self._changed:
            while not self.stopping.is_set():
                self.look_after()
                loss = self._loss
                if self._frames and (loss is None or self._frames[0].frame_id < loss.frame_id):
                    return self._given(self._frames.popleft())
                if loss is not None:
                    self._loss = None
                    return self._given(loss)
                if self._ended:
                    return None
                if self._away and time.monotonic() - self._told_s >= self.settings.report_s:
                    return self._given(self._away_record())
                self._changed.wait(min(_TICK_S, self.settings.report_s))
            return None

    def _given(self, record: FrameRecord) -> FrameRecord:
        """The record as it is handed out: every id before it that was not is one that was dropped."""
        self._n_given += 1
        return replace(record, dropped=record.frame_id + 1 - self._n_given)

    def look_after(self) -> None:
        """Notice a camera that is silent or hangs; whoever reads from it calls this several times a second."""
        with self._changed:
            if self._bug is not None:
                raise self._bug
            now_s = time.monotonic()
            if not self._ended and not self._away and now_s - self._came_s > self.settings.silence_s:
                self._lose(f"no frame for {now_s - self._came_s:.1f} s; check the camera, its cable and its network")
            self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
            hung = bool(self._away) and now_s - self._busy_s > self.settings.hung_s
            if hung and self._grabber is not None and len(self._left_behind) < _MOST_LEFT_BEHIND:
                _log.warning("%s: the driver doesn't return; opening the camera anew beside it", self.name)
                self._left_behind.append(self._grabber)
                self._start(None)

    def _grab(self, device: Device | None) -> None:
        """The grabber's thread: reads until it is stopped or left behind, opens again what is lost."""
        check = ImageCheck(self.settings.frozen_s, self.settings.black)
        backoff = Backoff(*self.settings.backoff_s)
        try:
            while self._wait_for_driver():
                try:
                    if device is None:
                        device = self._connect()
                        if self.on_demand:  # the next frame may be long in coming
                            with self._changed:
                                if self._is_mine():
                                    self._be_back()
                    if self._wait_for_driver():
                        self._put(device, check)
                        backoff.reset()
                except (SourceError, cv2.error) as error:
                    with self._changed:
                        if self._is_mine():
                            self._lose(str(error))
                    if device is not None:
                        device.close()
                        device = None
                    with self._changed:
                        if self._is_mine():
                            self._busy_s = math.inf
                    self.stopping.wait(backoff.next_s())
        except EndOfFrames:
            self._end(None)
        except Exception as error:  # a bug: for whoever iterates, with its traceback
            self._end(error)
        finally:
            if device is not None:
                device.close()

    def _is_mine(self) -> bool:
        return self._grabber is threading.current_thread() and not self.stopping.is_set()

    def _wait_for_driver(self) -> bool:
        with self._changed:
            if self._is_mine():
                self._busy_s = time.monotonic()
                return True
            return False

    def _put(self, device: Device, check: ImageCheck) -> None:
        began_s = time.monotonic()
        image: Frames | None = None
        try:
            image = device.read()
            fault = check.fault(image, time.monotonic())
        except DataError as error:
            fault = str(error)
        shot = self._shot(device)
        with self._changed:
            if not self._is_mine():
                return
            self._be_back()
            record = self._record(None if fault else image, fault, shot)
            self._came_s = record.monotonic_s
            if self.listener is None:
                self._keep(record)
                self._changed.notify_all()
        if self.listener is not None:
            self.listener(began_s if shot.began_s is None else shot.began_s, record)

    def _be_back(self) -> None:
        if self._away:
            self._away, self.connected = "", True
            self.reconnects += 1
            _log.warning("%s is back after %.0f s", self.name, time.monotonic() - self._lost_s)

    def _keep(self, record: FrameRecord) -> None:
        if not self.on_demand:
            self.dropped += len(self._frames)
            self._frames.clear()
        elif len(self._frames) >= _MOST_PARTS:
            record = replace(record, image=None, error=f"{_MOST_PARTS} parts wait already; trigger more slowly")
            self.dropped += len(self._frames) == _MOST_WAITING
        self._frames.append(record)

    def _passed_over(self, count: int) -> None:
        """Frames that came and that the device left out, to give a newer one."""
        with self._changed:
            if self._is_mine():
                self._next_id += count
                self.dropped += count

    def _lose(self, reason: str) -> None:
        """The camera is away; the first time a record says so at once."""
        lost, self._away, self.connected = not self._away, reason, False
        if lost:
            self._lost_s = time.monotonic()
            _log.warning("%s is away: %s", self.name, reason)
            if self._loss is not None:
                self.dropped += 1
            self._loss = self._away_record()
            self._changed.notify_all()

    def _away_record(self) -> FrameRecord:
        self._told_s = time.monotonic()
        return self._record(None, f"the camera is away: {self._away}")

    def _record(self, image: Frames | None, error: str | None, shot: Shot | None = None) -> FrameRecord:
        frame_id, self._next_id = self._next_id, self._next_id + 1
        seen = shot or Shot()
        return FrameRecord(
            frame_id,
            f"{self.name}#{frame_id}",
            utc_now(),
            image,
            error,
            camera_frame_id=seen.frame_id,
            camera_time_ns=seen.time_ns,
        )

    def _end(self, bug: Exception | None) -> None:
        with self._changed:
            if self._is_mine():
                self._ended, self._bug = True, bug
                self._busy_s = math.inf
                self._changed.notify_all()
