from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.runtime.drift.change_detector import Band, ChangeDetector, exceedance_bound


def alarms(outside: np.ndarray, bound: float, looks: float) -> int:
    """How often a detector is raised over a stream of looks."""
    detector, raised, stood = ChangeDetector(bound, looks), 0, False
    for value in outside.tolist():
        detector.add(value)
        raised += detector.standing and not stood
        stood = detector.standing
    return raised


@pytest.mark.parametrize(
    ("n_outside", "n", "expected"),
    [
        (1, 1, 0.999),  # one value says nothing
        (1, 99, 1 - 0.001 ** (1 / 99)),  # the largest of n: closed form
        (8, 200, 0.09507),  # Beta(8, 193), its 99.9 % quantile
    ],
)
def test_the_bound_is_the_quantile_of_the_beta_distribution(n_outside: int, n: int, expected: float) -> None:
    assert exceedance_bound(n_outside, n) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("draw", ["normal", "heavy tails", "few values"])
def test_few_values_leave_a_learned_band(draw: str, rng: np.random.Generator) -> None:
    def values(n: int) -> np.ndarray:
        if draw == "normal":
            return rng.normal(size=n)
        return rng.standard_t(2, size=n) if draw == "heavy tails" else rng.integers(0, 5, n).astype(float)

    broken = 0
    for _ in range(300):
        band = Band.learn(values(200), 0.0, 0.0)
        new = values(2000)
        broken += bool(
            np.mean((new < band.low) | (new > band.high)) > band.bound + 0.02
        )  # 3 standard errors of the mean
    assert broken <= 3  # 0.3 are expected


def test_a_band_is_as_wide_as_what_matters_and_may_be_open() -> None:
    band = Band.learn(np.full(100, 50.0), 2.0, 3.0)
    assert (band.low, band.middle, band.high) == (48.0, 50.0, 53.0)
    low_only = Band.learn(np.arange(100.0), 0.0, math.inf)
    assert low_only.high == math.inf
    assert low_only.holds(1e9)
    assert not low_only.holds(-1.0)
    assert low_only.bound < Band.learn(np.arange(100.0), 0.0, 0.0).bound  # one end only


@pytest.mark.parametrize("looks", [100, 1000])
def test_false_alarms_are_as_rare_as_promised_at_the_bound_itself(looks: int) -> None:
    rng = np.random.default_rng(looks)
    steps = 200 * looks
    # at most one in `looks` on average: 200; an alarm stands for a while, which only lowers the count
    assert alarms(rng.random(steps) < 0.1, bound=0.1, looks=looks) <= 200


def test_false_alarms_within_a_horizon() -> None:
    """An alarm within t looks has a probability of at most t / looks: here 0.2."""
    runs = [alarms(np.random.default_rng(seed).random(200) < 0.1, 0.1, 1000) > 0 for seed in range(400)]
    assert np.mean(runs) <= 0.2 + 0.04  # and two standard errors


@pytest.mark.parametrize(("share", "at_most"), [(1.0, 9), (0.8, 20), (0.5, 60), (0.3, 260)])
def test_delay_until_a_change_is_seen(share: float, at_most: int) -> None:
    delays = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        detector = ChangeDetector(0.1, 1e6)
        for outside in rng.random(3000) < 0.04:  # a long calm before it must not make it slower
            detector.add(bool(outside))
        delay = 0
        while not detector.standing:
            detector.add(bool(rng.random() < share))
            delay += 1
        delays.append(delay)
    assert np.median(delays) <= at_most


def test_an_alarm_ends_when_the_change_is_over_and_comes_again() -> None:
    detector = ChangeDetector(0.1, 1e6)
    for _ in range(2):
        for _ in range(6):
            detector.add(True)
        assert not detector.standing
        for _ in range(3):
            detector.add(True)
        assert detector.standing
        assert detector.suspicious
        for _ in range(20):
            detector.add(False)
        assert detector.standing  # not back for long enough
        for _ in range(60):
            detector.add(False)
        assert not detector.standing
        assert not detector.suspicious


def test_evidence_is_suspicious_before_it_is_an_alarm() -> None:
    detector = ChangeDetector(0.1, 1e6)
    for _ in range(6):
        detector.add(True)
    assert detector.suspicious
    assert not detector.standing


LOOKS = st.lists(st.booleans(), max_size=60)


@given(st.floats(1e-4, 0.95), LOOKS)
def test_evidence_grows_by_at_most_one_a_look_at_the_bound(bound: float, looks: list[bool]) -> None:
    """What both promises follow from: under the bound, evidence less the number of looks is a supermartingale."""
    before, inside, outside = (ChangeDetector(bound, math.inf) for _ in range(3))
    for look in looks:
        for detector in (before, inside, outside):
            detector.add(look)
    inside.add(False)
    outside.add(True)
    for rate in (bound, bound / 2, 0):
        mean = (1 - rate) * inside.evidence + rate * outside.evidence
        assert mean <= (before.evidence + 1) * (1 + 1e-9)


@given(st.floats(1e-3, 0.95), st.lists(st.integers(0, 80), min_size=1, max_size=20))
def test_looks_inside_can_be_taken_at_once(bound: float, gaps: list[int]) -> None:
    singly, at_once = ChangeDetector(bound, 100.0), ChangeDetector(bound, 100.0)
    for gap in gaps:
        for _ in range(gap):
            singly.add(False)
        at_once.skip(gap)
        assert (at_once.standing, at_once.evidence) == (singly.standing, pytest.approx(singly.evidence))
        assert at_once.share == pytest.approx(singly.share)
        for detector in (singly, at_once):
            detector.add(True)


def test_a_rate_of_twice_a_small_bound_is_seen() -> None:
    rng = np.random.default_rng(0)
    detector, looks = ChangeDetector(0.01, 1e6, memory=1000), 0
    while not detector.standing:
        detector.add(bool(rng.random() < 0.02))
        looks += 1
    assert looks < 10_000
