"""Where the threads of several cameras hand their frames to the one thread that runs the engine."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

_ItemT = TypeVar("_ItemT")


class FairQueue(Generic[_ItemT]):
    """A bounded queue for each camera; `take` gives at most one item of each, so that none can crowd out another.

    Who puts waits for room: nothing is ever dropped here.
    """

    def __init__(self, cameras: Sequence[str], depth: int) -> None:
        self._changed = threading.Condition()
        self._queues: dict[str, deque[_ItemT]] = {camera: deque() for camera in cameras}
        self._going = set(cameras)
        self._depth = depth
        self._closed = False
        self._turn = 0

    def put(self, camera: str, item: _ItemT) -> bool:
        """Queue an item after the camera's others, when there is room; False once closed."""
        queue = self._queues[camera]
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(queue) < self._depth)
            if self._closed:
                return False
            queue.append(item)
            self._changed.notify_all()
            return True

    def finish(self, camera: str) -> None:
        """Say that a camera gives nothing more."""
        with self._changed:
            self._going.discard(camera)
            self._changed.notify_all()

    def take(self, most: int, timeout_s: float) -> list[_ItemT] | None:
        """The next item of each camera that has one, at most `most`; none after the timeout; None when all ended."""
        with self._changed:
            end = time.monotonic() + timeout_s
            while not any(self._queues.values()):
                if self._closed or not self._going:
                    return None
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(left_s)
            cameras = list(self._queues)
            order = cameras[self._turn :] + cameras[: self._turn]
            waiting = [camera for camera in order if self._queues[camera]][:most]
            self._turn = (cameras.index(waiting[-1]) + 1) % len(cameras)
            items = [self._queues[camera].popleft() for camera in waiting]
            self._changed.notify_all()
            return items

    def close(self) -> None:
        """Take nothing more; whoever waits in `put` goes on. What is queued can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
