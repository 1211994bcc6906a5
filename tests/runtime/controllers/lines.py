"""The line's side: the real handshake, without camera and model; tests say when each part has which result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.controllers.handshake import Handshake
from simplenet_edge.runtime.records import FrameResult, Part, VerdictName
from tests.runtime.sinks.results import result


def judged(verdict: VerdictName, score: float | None = None, reason: str | None = None) -> FrameResult:
    """INVALID with a score is a part that was judged too late."""
    if score is None:
        return replace(result(0, "INVALID"), reason=reason)
    frame = result(0, "OK" if verdict == "INVALID" else verdict)
    assert frame.detection is not None
    late = {} if reason is None else {"reason": reason, "cause": "deadline"}
    return replace(frame, detection=replace(frame.detection, score=score), **late)  # type: ignore[arg-type]


class LineSide:
    """`verdict` is the result of the part that is busy, `refusal` why no part is taken; it may be away."""

    def __init__(self) -> None:
        self.away = False
        self.refusal: str | None = None
        self.verdict: FrameResult | None = None
        self.parts: list[tuple[str, str]] = []  # part and recipe of each trigger that was taken
        self.errors: list[tuple[str, str]] = []  # part and reason
        self.answer = Answer()
        self._handshake = Handshake(self._fire, deadline_s=1e9)
        self._reply: Callable[[FrameResult], None] | None = None

    def _fire(self, reply: Callable[[FrameResult], None], part: Part) -> None:
        if self.refusal is not None:
            raise SourceError(self.refusal)
        self.parts.append((part.id or "", part.recipe or ""))
        self._reply = reply

    def step(self, request: Request) -> Answer:
        if self.away:
            self._handshake.lose()
            self.answer = Answer()
            return self.answer
        if self.answer.busy and self.verdict is not None and self._reply is not None:
            self._reply(self.verdict)
            self._reply = None
        before, self.answer = self.answer, self._handshake.step(request)
        if self.answer.error and not before.error:
            self.errors.append((self.answer.part_id, self.answer.reason))
        return self.answer


class RunningLine:
    """A thread that exchanges with a controller every 2 ms, and toggles the watchdog, unless `silent`."""

    def __init__(self, controller: Controller) -> None:
        self.side = LineSide()
        self.silent = False
        self._controller = controller
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> RunningLine:
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
                answer = self.side.step(request)
            time.sleep(0.002)
