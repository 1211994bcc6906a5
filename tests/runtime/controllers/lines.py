"""The line's side of the handshake, played as `controllers/base.py` has it; tests say when and how it answers."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.records import VerdictName


class Handshake:
    """`step` gives the answer to a request. `verdict` ends the part that is busy, `fail` makes it an error."""

    def __init__(self) -> None:
        self.ready = True  # whether it would take a part
        self.verdict: tuple[VerdictName, float | None, str] | None = None
        self.fail: str | None = None
        self.parts: list[tuple[str, str]] = []  # part and recipe of each trigger that was taken
        self.taken_back: list[str] = []
        self.answer = Answer()

    def step(self, request: Request) -> Answer:
        now = self.answer
        if now.valid or now.error:
            if request.acknowledge and not request.trigger:
                now = Answer(ready=self.ready)
        elif now.busy:
            now = self._busy(now, request)
        elif request.trigger and now.ready:
            self.parts.append((request.part_id, request.recipe))
            now = Answer(busy=True, part_id=request.part_id, recipe=request.recipe)
        elif request.trigger:
            now = Answer(error=True, part_id=request.part_id, reason="a trigger before ready")
        else:
            now = Answer(ready=self.ready)
        self.answer = now
        return now

    def _busy(self, now: Answer, request: Request) -> Answer:
        if not request.trigger or request.part_id != now.part_id:
            self.taken_back.append(now.part_id)
            return Answer(error=True, part_id=now.part_id, reason="the trigger was taken back")
        if self.fail is not None:
            return Answer(error=True, part_id=now.part_id, reason=self.fail)
        if self.verdict is None:
            return now
        verdict, score, reason = self.verdict
        return Answer(valid=True, part_id=now.part_id, verdict=verdict, score=score, reason=reason)


class Line:
    """A thread that exchanges with a controller every 2 ms, and toggles the watchdog, unless `silent`."""

    def __init__(self, controller: Controller) -> None:
        self.handshake = Handshake()
        self.silent = False
        self._controller = controller
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Line:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        answer = Answer()
        while not self._stopping:
            if not self.silent:
                request = self._controller.exchange(answer, int(time.monotonic() * 10) % 2 == 0)
                answer = self.handshake.step(request)
            time.sleep(0.002)
