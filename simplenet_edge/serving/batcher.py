"""Requests of many clients, in batches through one engine: a thread a model takes what waits together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Batch", "BatchConfig", "Batcher", "Unavailable"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchConfig:
    """How requests become batches. Raises ConfigError."""

    max_batch: int = 8  # frames of one request, and of one call of the engine
    wait_ms: float = 0.0  # how long the first request of a batch waits for others; while the engine computes, all do
    queue: int = 128  # frames that may wait; what is too much is refused at once

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ConfigError(f"a batch has at least 1 frame, not {self.max_batch}")
        if not 0 <= self.wait_ms <= 1000:
            raise ConfigError(f"a request waits for others from 0 to 1000 ms, not {self.wait_ms}")
        if self.queue < self.max_batch:
            raise ConfigError(f"the queue must hold a batch of {self.max_batch} frames, not {self.queue}")


class Unavailable(Exception):
    """No room for another request, now or because this is its end."""


@dataclass(frozen=True)
class Batch:
    """One call of the engine: its frames, how long each request waited for it, how long it took; whether it failed."""

    frames: int
    queue_s: tuple[float, ...]
    compute_s: float
    failed: bool


@dataclass(frozen=True, eq=False)
class _Waiting:
    frames: Frames
    future: Future[Prediction]
    since_s: float


class Batcher:
    """A context manager whose thread calls `predict`; at its end everything that waits is computed first.

    `on_batch` hears of every call, in that thread.
    """

    def __init__(
        self, predict: Callable[[Frames], Prediction], config: BatchConfig, on_batch: Callable[[Batch], object]
    ) -> None:
        self._predict = predict
        self._config = config
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._requests: deque[_Waiting] = deque()
        self._frames = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def waiting(self) -> int:
        """Frames that wait."""
        return self._frames

    def submit(self, frames: Frames) -> Future[Prediction]:
        """What the engine will say of frames uint8 `(B, H, W, 3)`, B at most `max_batch`; cancelled, it need not.

        Raises Unavailable where the queue is full or closed; never waits. The future raises what `predict` raises.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the server is about to end; ask another one")
            if self._frames + len(frames) > self._config.queue:
                raise Unavailable(
                    f"expected room for {len(frames)} frames, found {self._frames} of {self._config.queue} waiting; "
                    "ask again later, or less often"
                )
            waiting = _Waiting(frames, Future(), time.monotonic())
            self._requests.append(waiting)
            self._frames += len(frames)
            self._changed.notify_all()
        return waiting.future

    def close(self) -> None:
        """Take nothing more; what waits is still computed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> Batcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._thread.join()

    def _run(self) -> None:
        while (requests := self._take()) is not None:
            if requests:
                self._compute(requests)

    def _take(self) -> list[_Waiting] | None:
        """The oldest requests that fit one call, without those that were cancelled; None at the end."""
        most = self._config.max_batch
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._closed)
            if not self._requests:
                return None
            end_s = self._requests[0].since_s + self._config.wait_ms / 1000
            while not self._closed and self._frames < most and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            taken: list[_Waiting] = []
            room = most
            while self._requests and len(self._requests[0].frames) <= room:
                request = self._requests.popleft()
                self._frames -= len(request.frames)
                if request.future.set_running_or_notify_cancel():
                    taken.append(request)
                    room -= len(request.frames)
            return taken

    def _compute(self, requests: list[_Waiting]) -> None:
        started_s = time.monotonic()
        parts = [one.frames for one in requests]
        count = sum(map(len, parts))
        prediction, failure = None, None
        try:
            prediction = self._predict(parts[0] if len(parts) == 1 else np.concatenate(parts))
        except Exception as error:  # whatever it is, the next batch may do
            _log.error("a batch of %d frames failed: %s", count, error)
            failure = error
        waits_s = tuple(started_s - one.since_s for one in requests)
        self._on_batch(Batch(count, waits_s, time.monotonic() - started_s, prediction is None))
        first = 0
        for one in requests:
            part = slice(first, first := first + len(one.frames))
            if prediction is None:
                one.future.set_exception(failure)
            else:
                one.future.set_result(Prediction(prediction.score[part], prediction.map[part]))
