"""Sources and sinks that tests can watch: a belt of parts, a sink that keeps everything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from simplenet_edge.errors import SinkError
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.sinks import Sink
from simplenet_edge.runtime.sources import Source, View
from simplenet_edge.runtime.sources.base import utc_now
from simplenet_edge.spec import Frames
from tests.bundles import even_frames, with_spot
from tests.waiting import SOON_S

"""More than anything here takes on a busy machine."""


class Belt(Source):
    """`count` parts, good but for those in `bad`; before frame `at`, `event` happens. `dark` ones have no image."""

    def __init__(
        self,
        count: int,
        at: int = -1,
        event: Callable[[], object] = int,
        dark: tuple[int, ...] = (),
        bad: tuple[int, ...] = (),
        name: str = "belt",
        view: View | None = None,
        reply: Callable[[FrameResult], None] | None = None,
    ) -> None:
        super().__init__(name, view)
        self.count, self.at, self.event, self.dark, self.bad, self.reply = count, at, event, dark, bad, reply
        self.is_open = False

    def _open(self) -> None:
        self.is_open = True

    def _close(self) -> None:
        self.is_open = False

    def image(self, i: int) -> Frames:
        part = even_frames(1, seed=i)
        return np.asarray((with_spot(part) if i in self.bad else part)[0], np.uint8)

    def __iter__(self) -> Iterator[FrameRecord]:
        assert self.is_open
        for i in range(self.count):
            if i == self.at:
                self.event()
            dark = i in self.dark
            yield FrameRecord(
                i,
                f"frame-{i}",
                utc_now(),
                None if dark else self.image(i),
                "the frame is dark" if dark else None,
                reply=self.reply,
            )


class LiveBelt(Belt):
    """The same from a camera: it goes on until it is stopped, and gives a frame only when `step` lets it."""

    live: ClassVar[bool] = True

    def __init__(self, name: str = "live", bad: tuple[int, ...] = (), view: View | None = None) -> None:
        super().__init__(10**9, bad=bad, name=name, view=view)
        self.steps = threading.Semaphore(0)

    def step(self, count: int = 1) -> None:
        """Let so many more frames through."""
        for _ in range(count):
            self.steps.release()

    def __iter__(self) -> Iterator[FrameRecord]:
        for record in super().__iter__():
            while not self.steps.acquire(timeout=0.02):
                if self.stopping.is_set():
                    return
            yield record


class Kept(Sink):
    """Keeps every result; fails on those from number `fails_from` on, as long as `broken` is set."""

    name = "kept"
    needs_images: ClassVar[bool] = True

    def __init__(self, fails_from: int | None = None) -> None:
        self.results: list[FrameResult] = []
        self.is_open = False
        self.fails_from = fails_from
        self.changed = threading.Condition()

    def open(self) -> None:
        self.is_open = True

    def write(self, result: FrameResult) -> None:
        assert self.is_open
        if self.fails_from is not None and len(self.results) >= self.fails_from:
            raise SinkError("the disk is full")
        with self.changed:
            self.results.append(result)
            self.changed.notify_all()

    def close(self) -> None:
        self.is_open = False

    def wait_for(self, count: int) -> list[FrameResult]:
        """The results, once there are at least so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= count, SOON_S), f"only {len(self.results)} came"
            return list(self.results)

    @property
    def verdicts(self) -> list[str]:
        return [result.verdict for result in self.results]
