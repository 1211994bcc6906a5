"""The handshake of `base` as a state machine: what the controller sets goes in, what we set comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum, auto

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.runtime.controllers.base import Answer, Request
from simplenet_edge.runtime.records import FrameResult, Part

__all__ = ["Fire", "Handshake"]

Fire = Callable[[Callable[[FrameResult], None], Part], None]
"""Asks for a frame of a part and for the call of the first argument with its result. Raises SourceError."""


class _State(Enum):
    AWAY = auto()  # nothing is known of the controller
    READY = auto()
    BUSY = auto()
    TOLD = auto()  # a verdict or an error is shown
    CLEARED = auto()  # it was acknowledged, and the acknowledgement still stands


class Handshake:
    """One part at a time. `step` and `lose` belong to one thread; results come from any.

    `answered` is set when a result has come, so that whoever waits between two steps needn't wait longer.
    """

    def __init__(self, fire: Fire, deadline_s: float) -> None:
        self.deadline_s = deadline_s  # from the trigger to the verdict
        self.answered = threading.Event()
        self._fire = fire
        self._state = _State.AWAY
        self._asked = Request()
        self._asked_s = 0.0
        self._answer = Answer()
        self._result: list[FrameResult] = []  # of the part at hand; each part has a list of its own

    def step(self, request: Request) -> Answer:
        """What we set now that the controller sets `request`."""
        self.answered.clear()
        if self._state is _State.AWAY:
            self._look(request)
        elif self._state is _State.READY and request.trigger and not request.acknowledge:
            self._begin(request)
        elif self._state is _State.BUSY:
            self._wait(request)
        elif self._state is _State.TOLD and request.acknowledge and not request.trigger:
            self._state, self._answer = _State.CLEARED, Answer()
        elif self._state is _State.CLEARED and not request.acknowledge:
            self._become_ready()
        return self._answer

    def lose(self) -> None:
        """The controller is away: what was under way ends as an error as soon as it is back."""
        self._state, self._answer = _State.AWAY, Answer()

    def _look(self, request: Request) -> None:
        """At the start, and when the controller is back."""
        if request.trigger:  # its part may have passed long ago
            self._tell_error(request, "the line was not ready when the trigger came")
        elif not request.acknowledge:
            self._become_ready()

    def _become_ready(self) -> None:
        self._state, self._answer = _State.READY, Answer(ready=True)

    def _begin(self, request: Request) -> None:
        self._asked, self._asked_s, self._result = request, time.monotonic(), []
        try:
            part = Part(request.part_id or None, request.recipe or None)
            self._fire(self._reply(self._result), part)
        except (DataError, SourceError) as error:
            return self._tell_error(request, str(error))
        self._state = _State.BUSY
        self._answer = Answer(busy=True, part_id=request.part_id, recipe=request.recipe)

    def _reply(self, into: list[FrameResult]) -> Callable[[FrameResult], None]:
        def reply(result: FrameResult) -> None:
            into.append(result)
            self.answered.set()

        return reply

    def _wait(self, request: Request) -> None:
        asked = self._asked
        if not request.trigger or (request.part_id, request.recipe) != (asked.part_id, asked.recipe):
            self._tell_error(asked, "the trigger was taken back, or its part changed, before the verdict")
        elif self._result:
            self._tell(self._result[0])
        elif time.monotonic() - self._asked_s > self.deadline_s:
            self._tell_error(asked, f"no verdict within {self.deadline_s:g} s of the trigger")

    def _tell(self, result: FrameResult) -> None:
        self._state = _State.TOLD
        self._answer = Answer(
            valid=True,
            part_id=self._asked.part_id,
            recipe=self._asked.recipe,
            verdict=result.verdict,
            score=None if result.detection is None else result.detection.score,
            reason=result.reason or "",
        )

    def _tell_error(self, request: Request, reason: str) -> None:
        self._state, self._result = _State.TOLD, []
        self._answer = Answer(error=True, part_id=request.part_id, recipe=request.recipe, reason=reason)
