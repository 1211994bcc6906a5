"""The states and jobs of a vision system after OPC 40100-1, without OPC UA: what its client asks, how the line answers.

    client                               VisionSystem                     line
    StartSingleJob(part, recipe)  ->     SingleExecution
                                         trigger, part_id, recipe  ->
                                                                     <-   busy, then valid or error
    ResultReady                   <-     acknowledge               ->
                                                                     <-   nothing of that part, ready
    Ready                         <-     neither

A start is refused unless the line has said `ready` to a request with neither trigger nor acknowledge: no answer to an
earlier part can then be taken for one to the next. An error of the line is the state Error until it is over; a job that
ends without a verdict has a result too, INVALID.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import IntEnum
from typing import Literal

from simplenet_edge.runtime.controllers.base import Answer, Request
from simplenet_edge.runtime.records import VerdictName

__all__ = [
    "Job",
    "JobEnded",
    "JobStarted",
    "Mode",
    "Notice",
    "Refused",
    "ResultState",
    "State",
    "StateChanged",
    "VisionSystem",
]

State = Literal["Preoperational", "Halted", "Error", "Operational"]
Mode = Literal["Initialized", "Ready", "SingleExecution"]


class ResultState(IntEnum):
    """OPC 40100-1, 12.19."""

    UNDEFINED = 0
    COMPLETED = 1
    PROCESSING = 2
    ABORTED = 3
    FAILED = 4


class Refused(Exception):
    """The state doesn't allow what the client asks."""


@dataclass(frozen=True)
class Job:
    """What the client asked for, as it calls it, and when."""

    id: str
    started: datetime
    part_id: str = ""
    recipe: str = ""
    product_id: str = ""
    meas_id: str = ""


@dataclass(frozen=True)
class StateChanged:
    """The system is in a state now; `mode` is that of the automatic mode, None outside Operational."""

    state: State
    mode: Mode | None
    reason: str = ""  # why it is Error


@dataclass(frozen=True)
class JobStarted:
    """A job has been accepted."""

    job: Job


@dataclass(frozen=True)
class JobEnded:
    """The result of a job; INVALID wherever it isn't COMPLETED."""

    job: Job
    state: ResultState
    ended: datetime
    verdict: VerdictName = "INVALID"
    score: float | None = None
    reason: str = ""


Notice = StateChanged | JobStarted | JobEnded


class VisionSystem:
    """What the line's thread and the server's both change, each under one lock; `take` gives the news in their order.

    Operational by itself once the line is ready for the first time; after `reset` only by `select_automatic`. Without
    an `exchange` for `silence_s` seconds it is in Error.
    """

    def __init__(self, silence_s: float = 2.0) -> None:
        self.silence_s = silence_s
        self._lock = threading.Lock()  # guards all below
        self._notices: deque[Notice] = deque()
        self._shown = StateChanged("Preoperational", None)  # to the client, or about to be
        self._state: State = "Preoperational"
        self._by_itself = True
        self._fault = ""
        self._answer = Answer()
        self._request = Request()
        self._settled = False  # the last answer was to a request with neither trigger nor acknowledge
        self._heard_s: float | None = None
        self._job: Job | None = None
        self._withdrawn: str | None = None  # the part whose trigger was taken back: the line's error is no news
        self._series, self._jobs = uuid.uuid4().hex[:8], 0

    def take(self) -> list[Notice]:
        """The news since the last call, oldest first."""
        with self._lock:
            notices = list(self._notices)
            self._notices.clear()
            return notices

    @property
    def has_news(self) -> bool:
        """Whether `take` would give any."""
        return bool(self._notices)

    def exchange(self, answer: Answer) -> Request:
        """The line shows its signals, an answer to the request before, and gets the next request."""
        with self._lock:
            self._heard_s = time.monotonic()
            self._settled = self._request == Request()
            self._answer = answer
            self._fault = ""
            if answer.error and answer.part_id != self._withdrawn:
                self._fault = answer.reason or "the line reports an error"
            shown = answer.valid or answer.error
            if shown and self._job is not None:
                self._answered(self._job, answer)
            if self._ready and self._by_itself and self._state == "Preoperational":
                self._state = "Operational"
            if self._job is None:
                self._request = Request(acknowledge=shown)
            else:
                self._request = Request(trigger=True, part_id=self._job.part_id, recipe=self._job.recipe)
            self._show()
            return self._request

    def _answered(self, job: Job, answer: Answer) -> None:
        if not self._fault and not (self._request.trigger and answer.part_id == job.part_id):
            self._fault = f"the line answers for part {answer.part_id!r} where part {job.part_id!r} was started"
        if self._fault:
            self._end(ResultState.FAILED, reason=self._fault)
        else:
            state = ResultState.FAILED if answer.verdict == "INVALID" else ResultState.COMPLETED
            self._end(state, answer.verdict, answer.score, answer.reason)

    def _end(
        self, state: ResultState, verdict: VerdictName = "INVALID", score: float | None = None, reason: str = ""
    ) -> None:
        if self._job is not None:
            self._notices.append(JobEnded(self._job, state, _now(), verdict, score, reason))
            self._job = None

    def _withdraw(self, state: ResultState, reason: str) -> None:
        if self._job is not None:
            self._withdrawn = self._job.part_id
            self._end(state, reason=reason)

    @property
    def _ready(self) -> bool:
        clear = self._settled and self._request == Request()
        return self._answer.ready and clear and self._job is None and not self._fault

    def _show(self) -> None:
        """Work out the state that the client sees, and tell it where that has changed."""
        if self._state in ("Operational", "Error"):
            self._state = "Error" if self._fault else "Operational"
        mode: Mode | None = None
        if self._state == "Operational":
            answer, was_busy = self._answer, self._shown.mode == "SingleExecution"
            pending = not (self._settled and self._request == Request()) or answer.busy
            if self._job is not None or (was_busy and pending):
                mode = "SingleExecution"
            else:
                mode = "Ready" if self._ready else "Initialized"
        changed = StateChanged(self._state, mode, self._fault if self._state == "Error" else "")
        if changed != self._shown:
            self._shown = changed
            self._notices.append(changed)

    def watch(self) -> None:
        """To be called now and then: whether the line still answers."""
        with self._lock:
            if self._heard_s is None or time.monotonic() - self._heard_s <= self.silence_s:
                return
            self._settled = False
            self._fault = f"the line has not answered for {self.silence_s:g} s"
            self._withdraw(ResultState.FAILED, self._fault)
            self._show()

    def start(self, part_id: str, recipe: str, product_id: str, meas_id: str) -> Job:
        """Begin a job. Raises Refused where the system isn't ready."""
        with self._lock:
            if self._shown.mode != "Ready" or not self._ready:
                raise Refused(f"not ready: {self._shown.mode or self._shown.state}")
            self._jobs += 1
            self._job = Job(f"{self._series}-{self._jobs:06d}", _now(), part_id, recipe, product_id, meas_id)
            self._withdrawn = None
            self._notices.append(JobStarted(self._job))
            self._show()
            return self._job

    def cancel(self, why: str) -> None:
        """Take the trigger back. Raises Refused where no job runs."""
        with self._lock:
            if self._job is None:
                raise Refused("no job runs")
            self._withdraw(ResultState.ABORTED, why)
            self._show()

    def select_automatic(self) -> None:
        """From Preoperational to Operational. Raises Refused in Halted and Error."""
        with self._lock:
            if self._state not in ("Preoperational", "Operational"):
                raise Refused(f"reset it first: {self._state}")
            self._state = "Operational"
            self._show()

    def leave(self, state: Literal["Preoperational", "Halted"], why: str) -> None:
        """Reset or halt; a job that runs is aborted."""
        with self._lock:
            self._withdraw(ResultState.ABORTED, why)
            self._by_itself = False
            self._state = state
            self._show()


def _now() -> datetime:
    return datetime.now(timezone.utc)
