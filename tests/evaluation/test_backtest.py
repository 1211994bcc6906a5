"""The figures of a back-test, from scores that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simplenet_edge.errors import DataError
from simplenet_edge.evaluation.backtest import backtest, rank_correlation, relative_scores, worst_flips
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.threshold import CONFIDENCE
from tests.bundles import tiny_record

OLD = tiny_record(operating_point=OperatingPoint(20.0, alpha=0.05, n_calibration=40, guaranteed=True))
NEW = tiny_record(operating_point=OperatingPoint(40.0, alpha=0.1, n_calibration=40, guaranteed=True))


def test_verdicts_and_flips_are_counted() -> None:
    old = np.array([10.0, 20.0, 21.0, 30.0, 19.0, 90.0])
    new = np.array([10.0, 41.0, 40.0, 50.0, 60.0, 10.0])
    found = backtest(old, new, ("a", "b"), (OLD, NEW), failed=2)
    assert (found.pictures, found.failed) == (6, 2)
    assert (found.both_ok, found.both_ng, found.ok_to_ng, found.ng_to_ok) == (1, 1, 2, 2)
    assert found.agreement == pytest.approx(2 / 6)
    assert (found.old.rejected, found.new.rejected) == (3, 3)
    relative = relative_scores(old, OLD), relative_scores(new, NEW)
    assert worst_flips(*relative, 5) == ([4, 1], [5, 2])  # those that change most first
    assert worst_flips(*relative, 1) == ([4], [5])


def test_relative_scores_are_0_at_the_median_and_1_at_the_threshold() -> None:
    assert relative_scores(np.array([15.0, 40.0, 65.0]), NEW).tolist() == [0.0, 1.0, 2.0]
    low = tiny_record(operating_point=OperatingPoint(10.0, alpha=0.1, n_calibration=4, guaranteed=False))
    assert relative_scores(np.array([10.0, 12.0]), low).tolist() == [1.0, 3.0]  # the threshold is at the median


def test_rates_and_thresholds_are_those_of_the_textbook(rng: np.random.Generator) -> None:
    old, new = rng.normal(15, 2, 2000), rng.normal(30, 6, 2000)
    found = backtest(old, new, ("a", "b"), (OLD, NEW), failed=0)
    for model, scores, alpha in ((found.old, old, 0.05), (found.new, new, 0.1)):
        above = int((scores > model.threshold).sum())
        assert model.rate == above / 2000
        assert model.rate_bound == pytest.approx(stats.beta.ppf(CONFIDENCE, above + 1, 2000 - above), rel=1e-6)
        assert np.mean(scores > model.archive_threshold) == pytest.approx(alpha, abs=1e-3)
        assert model.archive_guaranteed
    few = backtest(old[:9], new[:9], ("a", "b"), (OLD, NEW), failed=0)
    assert (few.old.archive_guaranteed, few.new.archive_guaranteed) == (False, True)
    assert few.old.archive_threshold == old[:9].max()


@pytest.mark.parametrize("decimals", [0, 6])  # with and without equal scores
def test_the_rank_correlation_is_spearmans(rng: np.random.Generator, decimals: int) -> None:
    old = rng.normal(size=300).round(decimals)
    new = (old + rng.normal(size=300)).round(decimals)
    assert rank_correlation(old, new) == pytest.approx(stats.spearmanr(old, new).statistic)
    assert rank_correlation(old, np.ones(300)) is None


def test_all_above_the_threshold_is_a_bound_of_one() -> None:
    assert backtest(np.full(3, 99.0), np.full(3, 1.0), ("a", "b"), (OLD, NEW), 0).old.rate_bound == 1.0


def test_an_archive_without_a_score_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 7 pictures has a score"):
        backtest(np.zeros(0), np.zeros(0), ("a", "b"), (OLD, NEW), failed=7)
