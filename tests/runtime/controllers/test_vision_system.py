"""The states and jobs without OPC UA; `test_opcua.py` has the same as a client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.runtime.controllers.base import Answer, Request
from simplenet_edge.runtime.controllers.vision_system import (
    JobEnded,
    JobStarted,
    Notice,
    Refused,
    ResultState,
    StateChanged,
    VisionSystem,
)
from tests.runtime.controllers.lines import LineSide, judged
from tests.waiting import until

READY, CLEAR = Answer(ready=True), Request()


def ready_system() -> VisionSystem:
    system = VisionSystem()
    assert system.exchange(READY) == CLEAR
    assert system.take() == [StateChanged("Operational", "Ready")]
    return system


def abort(system: VisionSystem) -> None:
    system.cancel("a test")


def restart(system: VisionSystem) -> None:
    system.leave("Preoperational", "a test")
    system.select_automatic()


def results(notices: list[Notice]) -> list[JobEnded]:
    return [notice for notice in notices if isinstance(notice, JobEnded)]


def test_one_part_from_start_to_ready() -> None:
    system = ready_system()
    job = system.start("p", "r", "", "")
    trigger = Request(trigger=True, part_id="p", recipe="r")
    assert system.take() == [JobStarted(job), StateChanged("Operational", "SingleExecution")]
    assert system.exchange(READY) == trigger  # the line has not seen it yet
    assert system.exchange(Answer(busy=True, part_id="p")) == trigger
    assert system.take() == []
    assert system.exchange(Answer(valid=True, part_id="p", verdict="OK", score=0.5)) == Request(acknowledge=True)
    (ended,) = results(system.take())
    assert (ended.job, ended.state, ended.verdict, ended.score) == (job, ResultState.COMPLETED, "OK", 0.5)
    assert system.exchange(READY) == CLEAR
    with pytest.raises(Refused):  # the line has not seen yet that its answer's acknowledge is gone
        system.start("q", "", "", "")
    assert system.exchange(READY) == CLEAR
    assert system.take() == [StateChanged("Operational", "Ready")]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(valid=True, part_id="another", verdict="OK", score=0.1),
        Answer(valid=True, part_id="", verdict="OK", score=0.1),
        Answer(error=True, part_id="p", verdict="OK", score=0.1),
        Answer(valid=True, error=True, part_id="p", verdict="OK", score=0.1),
        Answer(valid=True, part_id="p", verdict="INVALID", score=0.1, reason="blurred"),
    ],
)
def test_an_answer_that_is_not_the_part_s_verdict_is_never_its_ok(answer: Answer) -> None:
    system = ready_system()
    system.start("p", "", "", "")
    system.exchange(READY)
    assert system.exchange(answer) == Request(acknowledge=True)
    (ended,) = results(system.take())
    assert (ended.state, ended.verdict) == (ResultState.FAILED, "INVALID")
    assert ended.reason


def test_an_answer_that_came_before_the_trigger_is_not_the_job_s() -> None:
    system = ready_system()
    system.start("p", "", "", "")
    assert system.exchange(Answer(valid=True, part_id="p", verdict="OK")) == Request(acknowledge=True)
    (ended,) = results(system.take())
    assert (ended.state, ended.verdict) == (ResultState.FAILED, "INVALID")


def test_a_job_taken_back_before_the_line_saw_it_triggers_nothing() -> None:
    system = ready_system()
    system.start("p", "", "", "")
    system.cancel("a test")
    job = system.start("q", "", "", "")
    assert system.exchange(READY) == Request(trigger=True, part_id="q")
    assert job.part_id == "q"


@pytest.mark.parametrize("how", [abort, restart])
def test_after_a_job_taken_back_the_line_sees_no_trigger_before_the_next(how: Callable[[VisionSystem], None]) -> None:
    system = ready_system()
    system.start("p", "", "", "")
    assert system.exchange(READY).trigger
    how(system)
    with pytest.raises(Refused):  # the line has its trigger yet
        system.start("q", "", "", "")
    assert system.exchange(READY) == CLEAR
    restart(system)
    with pytest.raises(Refused):  # that was the line's answer to the trigger
        system.start("q", "", "", "")
    assert system.exchange(READY) == CLEAR
    assert system.start("q", "", "", "").part_id == "q"


def test_an_error_without_a_job_is_acknowledged_and_shown() -> None:
    system = ready_system()
    assert system.exchange(Answer(error=True, reason="the camera is away")) == Request(acknowledge=True)
    assert system.take() == [StateChanged("Error", None, "the camera is away")]
    system.exchange(READY)
    system.exchange(READY)
    assert system.take()[-1] == StateChanged("Operational", "Ready")


def test_a_line_that_never_came_is_not_missed_and_one_that_went_is() -> None:
    system = VisionSystem(silence_s=0.01)
    time.sleep(0.02)
    system.watch()
    assert system.take() == []
    system.exchange(READY)
    system.take()

    def missed() -> bool:
        system.watch()
        return system.has_news

    until(missed)
    assert system.take() == [StateChanged("Error", None, "the line has not answered for 0.01 s")]
    with pytest.raises(Refused):
        system.start("p", "", "", "")


ACTIONS = st.sampled_from(
    ["exchange", "exchange", "exchange", "start", "start", "cancel", "halt", "restart", "verdict", "refuse"]
)


@settings(max_examples=200)
@given(st.lists(ACTIONS, min_size=20, max_size=80))
def test_whatever_happens_each_job_ends_once_and_only_with_its_own_verdict(actions: list[str]) -> None:
    """The score of each verdict is the number of the part that the line was busy with."""
    system, line = VisionSystem(), LineSide()
    answer, request, started = Answer(), CLEAR, 0
    notices: list[Notice] = []
    for action in [*actions, "verdict", *["exchange"] * 10]:
        with suppress(Refused):
            if action == "start":
                system.start(str(started + 1), "", "", "")
                started += 1
            elif action == "cancel":
                abort(system)
            elif action == "halt":
                system.leave("Halted", "a test")
            elif action == "restart":
                restart(system)
        if action == "verdict":
            line.refusal, line.verdict = None, judged("OK", 0.0)
        elif action == "refuse":
            line.refusal = "a test"
        elif action == "exchange":
            if line.verdict is not None and answer.busy:
                line.verdict = judged("OK", float(answer.part_id))
            before, request = request, system.exchange(answer)
            assert not (before.trigger and request.trigger) or before == request
            answer = line.step(request)
        notices += system.take()
    ended = results(notices)
    assert [notice.job.part_id for notice in ended] == [str(number + 1) for number in range(started)]
    for notice in ended:
        assert notice.verdict == "INVALID" or notice.score == float(notice.job.part_id)
    triggered = [part for part, _ in line.parts]
    assert len(set(triggered)) == len(triggered)
