"""A thread for each sink, so that a slow disk or a dead broker never holds up the line."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.backoff import Backoff
from simplenet_edge.runtime.records import FrameResult, as_text
from simplenet_edge.runtime.sinks.base import Sink, TooLate
from simplenet_edge.runtime.sinks.tally import Tally
from simplenet_edge.runtime.snapshot import SinkSnapshot

__all__ = ["SinkWorker", "WorkerTimings"]

_WAITING = 16  # where all wait for a slow sink anyway, so that its end comes within the time that `close` has
_HURRY_S = 0.5  # for a sink to end after the second Ctrl-C
_NO_MAP = np.empty((0, 0), np.float32)
_NO_FRAME = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class WorkerTimings:
    """How patient a worker is; seconds."""

    retry_s: tuple[float, float] = (0.5, 5.0)  # the first wait after a failure, and the longest
    idle_s: float = 1.0  # between two calls of `Sink.idle`
    open_s: float = 10.0  # to wait for a sink to open before a live line starts without it
    flush_s: float = 10.0  # for what waits at the end to be written
    close_s: float = 5.0  # for the sink itself to close after that


class SinkWorker:
    """Runs one sink in a thread of its own: `open`, `submit` each result, `close`; or as a context manager.

    `wait=True` is for recorded frames, of which no result may be missing: `submit` blocks until there is room, and the
    first failure of the sink ends it; `submit` or `close` raises it. `wait=False` is for a live line: `submit` never
    blocks; where the queue is full the oldest result is lost, so that what is written after an outage is the newest; a
    sink that fails is closed and opened again until it takes the result, unless it is one for the `newest_only`: then
    the result is lost, and so is all but the newest that came meanwhile. With `strict` it must open at the start. While
    a sink has a `fault`, its `idle` is called after the same pauses. Losses are counted, and logged once per outage.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        capacity: int | None = None,
        wait: bool,
        strict: bool = False,
        timings: WorkerTimings | None = None,
    ) -> None:
        usual = min(sink.capacity, _WAITING) if wait else sink.capacity
        self._capacity = usual if capacity is None else capacity
        if self._capacity < 1:
            raise ConfigError(f"the queue of a sink holds at least 1 result, not {capacity}")
        self.sink = sink
        self.name = as_text(sink.name)
        self._wait, self._strict = wait, wait or strict
        self._timings = timings or WorkerTimings()
        self._backoff = Backoff(*self._timings.retry_s)
        self._retry_at_s = 0.0  # when a sink with a fault may idle again, by `time.monotonic`; the thread's own
        self._changed = threading.Condition()  # around all below
        self._queue: deque[FrameResult] = deque()
        self._hand: FrameResult | None = None  # being written
        self._tally = Tally(sink.name)
        if sink.newest_only and not wait:
            sink.is_overtaken = lambda: bool(self._queue)
        self._failure: Exception | None = None  # what ended the thread
        self._failure_told = False
        self._deadline: float | None = None  # set by `close`
        self._abandoned = False
        self._tried = threading.Event()  # to open the sink
        self._closing = threading.Event()
        self._sink_is_open = False  # the thread's own
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)

    def begin_open(self) -> None:
        """Start the thread, which opens the sink; doesn't wait for it."""
        self._thread.start()

    def open(self) -> None:
        """Wait until the sink was opened, or it was tried. Raises what no waiting mends, and if need be SinkError."""
        if self._thread.ident is None:
            self.begin_open()
        tried = self._tried.wait(self._timings.open_s)
        with self._changed:
            if not tried:
                self._tally.error = f"{self.name} is not open after {self._timings.open_s:.0f} s"
                self._failure = SinkError(self._tally.error) if self._strict else None
        self._tell_failure()

    def submit(self, result: FrameResult) -> None:
        """Hand over one result, where the sink wants it. With `wait` it raises what ended the sink."""
        if not self.sink.wants(result):
            return
        if not self.sink.needs_images:
            result = _without_images(result)
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: self._has_ended() or len(self._queue) < self._capacity)
            if self._has_ended():
                self._tally.add_lost()
                if self._wait and self._failure is None:
                    self._failure = SinkError(f"{self.name} was closed before all results were written")
            else:
                if len(self._queue) >= self._capacity:
                    self._queue.popleft()
                    self._tally.add_lost()
                self._queue.append(result)
                self._changed.notify_all()
            failure = self._failure
            self._failure_told = failure is not None
        if failure is not None:
            raise failure

    def snapshot(self) -> SinkSnapshot:
        """Counts so far."""
        with self._changed:
            return SinkSnapshot(
                written=self._tally.written,
                lost=self._tally.lost + self.sink.lost,
                waiting=len(self._queue) + (self._hand is not None) + self.sink.waiting,
                error=self._tally.error or self.sink.fault,
            )

    def begin_close(self) -> None:
        """Take no more results, and from now on write what waits for up to `flush_s`; doesn't wait for it."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + self._timings.flush_s
            self._changed.notify_all()
        self._closing.set()

    def close(self, at_most_s: float = math.inf) -> None:
        """Write what waits for up to `flush_s`, count the rest as lost, and end the thread.

        Returns within `flush_s` plus `close_s`, or `at_most_s`, also where the sink hangs. With `wait` it raises what
        ended the sink, or SinkError where a result is missing.
        """
        self.begin_close()
        assert self._deadline is not None
        try:
            if self._thread.ident is not None:
                left_s = self._deadline + self._timings.close_s - time.monotonic()
                self._thread.join(max(0.0, min(left_s, at_most_s)))
        finally:
            self._abandon()
        self._tell_failure()

    def _abandon(self) -> None:
        """Count what was not written as lost."""
        with self._changed:
            self._abandoned = True
            missing = len(self._queue) + (self._hand is not None)
            self._queue.clear()
            self._hand = None
            self._tally.add_lost(missing)
            if self._wait and missing and self._failure is None:
                self._failure = SinkError(
                    f"{self.name}: {missing} results were not written in {self._timings.flush_s:g} s"
                )

    def __enter__(self) -> SinkWorker:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(_HURRY_S if kind is KeyboardInterrupt else math.inf)
        except SimpleNetEdgeError:
            if kind is None:
                raise

    def _has_ended(self) -> bool:
        return self._failure is not None or self._deadline is not None

    def _tell_failure(self) -> None:
        with self._changed:
            failure = None if self._failure_told else self._failure
            self._failure_told = self._failure is not None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        while self._goes_on():
            done = self._turn()
            self._tried.set()
            if done:
                if self.sink.fault is None:
                    self._backoff.reset()
                continue
            self._close_sink()
            if self._failure is not None:
                return
            self._pause(self._backoff.next_s())
        self._close_sink()

    def _goes_on(self) -> bool:
        """Whether there is more to do; False when it is time to end."""
        with self._changed:
            if self._failure is not None:
                return False
            is_left = self._hand is not None or bool(self._queue)
            return self._deadline is None or (is_left and time.monotonic() < self._deadline)

    def _take(self) -> FrameResult | None:
        """The result in hand: what it was, or the next in the queue; of a `newest_only` sink the last one."""
        with self._changed:
            if self.sink.newest_only and self._queue and self._hand is not None:
                self._hand = None
                self._tally.add_lost()
            if self._hand is None and self._queue:
                self._hand = self._queue.popleft()
                self._changed.notify_all()
            return self._hand

    def _turn(self) -> bool:
        """Open the sink where needed, write what is in hand or else idle; False where that failed."""
        result, pause_s = None, 0.0
        try:
            if not self._sink_is_open:
                self.sink.open()
                self._sink_is_open = True
                self._tried.set()
            result = self._take()
            if result is None:
                pause_s = self._idle()
            else:
                lost = self.sink.lost
                self.sink.write(result)
                if self._wait and self.sink.lost > lost:
                    raise SinkError(f"{self.name} lost {self.sink.lost - lost} results; make its spool larger")
        except TooLate as error:
            self._failed(error)
            return self._failure is None
        except Exception as error:
            self._failed(error)
            return False
        with self._changed:
            if result is not None and not self._abandoned:
                self._hand = None
                self._tally.add_written(has_caught_up=not self._queue)
            elif not self._queue and pause_s and self._deadline is None:
                self._changed.wait(pause_s)
        return True

    def _idle(self) -> float:
        """Let the sink do what is left, unless it waits for a retry; the seconds until it can do more."""
        wait_s = self._retry_at_s - time.monotonic()
        if wait_s > 0:
            return wait_s
        more = self.sink.idle()
        if self.sink.fault is None:
            return 0.0 if more else self._timings.idle_s
        wait_s = self._backoff.next_s()
        self._retry_at_s = time.monotonic() + wait_s
        return wait_s

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._tally.fail(error)
            is_first = not self._tried.is_set()
            if self._wait or (is_first and (self._strict or not isinstance(error, SinkError))):
                self._failure = error
                self._changed.notify_all()
            elif self._hand is not None and (self.sink.newest_only or not isinstance(error, SimpleNetEdgeError)):
                # an old one would mislead; one that brings out a bug must not stand in the way of all others
                self._hand = None
                self._tally.add_lost()

    def _pause(self, seconds: float) -> None:
        if self._deadline is None:
            self._closing.wait(seconds)
        else:
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))
        if self.sink.newest_only:
            with self._changed:
                self._tally.add_lost(len(self._queue))
                self._queue.clear()

    def _close_sink(self) -> None:
        if not self._sink_is_open:
            return
        self._sink_is_open = False
        try:
            self.sink.close()
        except Exception as error:
            if self._tally.error is None:
                self._failed(error)


def _without_images(result: FrameResult) -> FrameResult:
    """The same numbers; `image` None, map and model frame without a pixel, and nobody to reply to."""
    detection = result.detection
    if detection is not None:
        detection = dataclasses.replace(detection, map=_NO_MAP, frame=_NO_FRAME)
    return dataclasses.replace(
        result, record=dataclasses.replace(result.record, image=None, reply=None), detection=detection
    )
