from __future__ import annotations

import numpy as np
import pytest
from parts import calibration_units, counted, drawn_parts, judged, pooled, resplit, summary

from simplenet_edge.spec import OperatingPoint


def test_parts_are_drawn_whole_and_anew_for_each_seed() -> None:
    parts = [f"{i % 20}" for i in range(100)]
    chosen = drawn_parts(parts, 0.3, seed=0)
    assert len(chosen) == 6
    assert chosen == drawn_parts(parts[::-1], 0.3, seed=0) != drawn_parts(parts, 0.3, seed=1)


@pytest.mark.parametrize(
    ("n", "alpha", "expected"),
    [
        (117, 0.01, 99),  # what 1 % takes
        (117, 0.05, 58),  # half
        (30, 0.05, 19),  # more than half
        (50, 0.01, 45),  # too few for 1 %: a tenth is left to judge
    ],
)
def test_calibration_units(n: int, alpha: float, expected: int) -> None:
    assert calibration_units(n, alpha) == expected


def test_parts_count_the_same_however_many_pictures_they_have() -> None:
    point = OperatingPoint(threshold=0.5, alpha=0.1, n_calibration=10, guaranteed=True)
    scores, parts = np.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.6]), np.array(["a", "b", "b", "b", "c", "c"])
    rate, with_one = judged(scores, parts, point)
    assert rate == pytest.approx((1 + 0 + 0.5) / 3)
    assert with_one == pytest.approx(2 / 3)


def test_only_parts_keep_the_promise_for_new_parts() -> None:
    """Pictures of a part score alike: those that calibrate tell of those that are judged."""
    rng = np.random.default_rng(0)
    parts = np.repeat(np.arange(100).astype(str), 6)
    scores = np.repeat(rng.normal(size=100), 6) + rng.normal(scale=0.01, size=600)
    by_part = resplit(scores, parts, 0.1, True, 200, rng)
    assert by_part["guaranteed"]
    assert (by_part["splits"], by_part["n_calibration"]) == (200, 50)
    assert by_part["false_reject_rate"] <= 0.1 + 0.01
    assert by_part["parts_rejected"] >= by_part["false_reject_rate"]
    by_image = resplit(scores, parts, 0.1, False, 200, rng)
    assert by_image["n_calibration"] == 300
    assert by_image["variance"] < by_part["variance"] / 4


def test_pooled_is_the_mean_and_its_error_over_all_splits() -> None:
    rates = [[0.01, 0.03, 0.02], [0.05, 0.0]]
    mean, error = pooled([counted(each, [0.0]) for each in rates])
    every = np.array([rate for each in rates for rate in each])
    assert mean == pytest.approx(every.mean())
    assert error == pytest.approx(every.std(ddof=1) / np.sqrt(len(every)))
    assert pooled([counted([0.02], [0.0])]) == (0.02, 0)


def test_summary() -> None:
    rows = [
        {"alpha": 0.05, "way": "part", "n_calibration": n, "guaranteed": True, **counted([rate, rate], [0.1])}
        for n, rate in ((58, 0.04), (60, 0.06))
    ]
    (line,) = summary(rows).splitlines()[2:]
    assert line == "| 5% | part | 5.00% ± 0.58% | 4.00% to 6.00% | 10.00% | 58 to 60 | yes |"
