from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.runtime.drift.reject_contract import RejectContract

VERDICTS = st.lists(st.booleans(), min_size=1, max_size=30)


def ran(rejected: list[bool], marked: list[int], looks: float = 200.0) -> RejectContract:
    """A contract after these verdicts, those numbered `marked` marked as good at the very end; only marks can alarm."""
    contract = RejectContract(0.05, 0.99, looks)
    for i, verdict in enumerate(rejected):
        contract.add(verdict, i)
    for i in marked:
        contract.false_reject(i)
    return contract


def some_of(data: st.DataObject, rejected: list[bool]) -> list[int]:
    ng = [i for i, verdict in enumerate(rejected) if verdict]
    return data.draw(st.lists(st.sampled_from(ng), unique=True)) if ng else []


@given(st.data(), VERDICTS)
def test_when_and_in_which_order_parts_are_marked_does_not_matter(data: st.DataObject, rejected: list[bool]) -> None:
    marked = some_of(data, rejected)
    at_once = RejectContract(0.05, 0.99, 200.0)
    for i, verdict in enumerate(rejected):
        at_once.add(verdict, i)
        if i in marked:
            assert at_once.false_reject(i)
    late = ran(rejected, marked)
    assert late.snapshot() == at_once.snapshot()
    assert (late.alarm is None) == (at_once.alarm is None)


@given(st.data(), VERDICTS)
def test_missing_marks_never_raise_an_alarm_sooner(data: st.DataObject, rejected: list[bool]) -> None:
    """So that false alarms are as rare as stated, whichever parts are marked."""

    def first_alarm(marked: list[int]) -> float:
        raised = (n for n in range(1, len(rejected) + 1) if ran(rejected[:n], marked).alarm is not None)
        return next(raised, math.inf)

    assert first_alarm([i for i, verdict in enumerate(rejected) if verdict]) <= first_alarm(some_of(data, rejected))


@pytest.mark.parametrize("marks", [False, True], ids=["verdicts", "marks"])
def test_false_alarms_within_a_horizon(marks: bool) -> None:
    """At the bound itself, where an alarm within t parts has a probability of at most t / looks: here 0.2."""
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rejected = (rng.random(400) < (0.05 if marks else 0.05 + 0.95 * 0.02)).tolist()
        contract = RejectContract(0.05, 0.99 if marks else 0.02, 2000.0)
        for i, verdict in enumerate(rejected):
            contract.add(verdict, i)
            if marks and verdict:
                contract.false_reject(i)
        alarms += contract.alarm is not None
    assert alarms / 400 <= 0.2 + 0.04  # and two standard errors


@pytest.mark.parametrize("frame_id", [3, 4, 99], ids=["marked already", "OK", "never seen"])
def test_what_does_not_count(frame_id: int) -> None:
    contract = ran([True, False, False, True, False], [3])
    assert not contract.false_reject(frame_id)
    assert contract.snapshot() == {"parts": 5, "ng": 2, "marked_good": 1, "promised": 0.05, "bad_share": 0.99}


def test_the_oldest_of_many_rejects_can_not_be_marked_any_more() -> None:
    contract = ran([True] * 10_001, [])
    assert not contract.false_reject(0)
    assert contract.false_reject(1)


def test_the_alarm_says_what_was_promised_seen_and_is_to_be_done() -> None:
    rejected = [False] * 2000 + [True, False, False, False] * 25
    assert ran(rejected, list(range(2000, 2100, 4)), 1e6).alarm == (
        "more good parts are rejected than promised: 25 of the last 100 parts were NG and marked as good, at most 5% "
        "were promised; teach or train the model with them"
    )
    contract = RejectContract(0.01, 0.02, 1e6)
    for i, verdict in enumerate(rejected):
        contract.add(verdict, i)
    assert contract.alarm is not None
    assert contract.alarm.startswith("more parts are rejected than promised: ")
    assert "at most 1% of good parts and 2% bad parts were to be expected" in contract.alarm


def test_an_alarm_ends_when_the_rate_is_back_and_with_forgetting() -> None:
    contract = ran([True] * 40, list(range(40)))
    assert contract.alarm is not None
    for i in range(400):
        contract.add(False, 40 + i)
    assert contract.alarm is not None  # a mean of 200 parts is not yet at 5 %
    for i in range(400):
        contract.add(False, 440 + i)
    assert contract.alarm is None
    contract = ran([True] * 40, list(range(40)))
    contract.forget()
    assert contract.alarm is None
    assert contract.snapshot()["parts"] == 0
