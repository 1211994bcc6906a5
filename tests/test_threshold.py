"""The conformal threshold: its rank, its exactness, its guarantee, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import beta

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import OperatingPoint, ScoreStatistics, from_dict, to_dict
from simplenet_edge.threshold import (
    calibration_share,
    check_threshold,
    conformal_threshold,
    false_reject_bound,
    guarantee_text,
    guarantee_warning,
    images_needed,
    pixel_threshold,
    rate_bound,
    score_statistics,
)

finite_scores = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))
per_mille = st.integers(1, 999)


@pytest.mark.parametrize(
    ("n", "alpha", "k"),
    [
        (9, 0.1, 9),  # (n + 1)(1 - alpha) is the whole number 9
        (10, 0.1, 10),  # 9.9 rounds up
        (9, 0.3, 7),  # in binary floats 10 * (1 - 0.3) is above 7 when done exactly
        (99, 0.01, 99),  # the smallest set for 1 %
        (199, 0.01, 198),  # one score may lie above
        (1, 0.5, 1),  # the smallest set of all
        (19, 0.05, 19),  # the smallest set for 5 %
        (999, 0.07, 930),  # 1000 * (1 - 0.07) is 929.9999999999999 in floats
    ],
)
def test_the_threshold_is_the_kth_smallest_score(n: int, alpha: float, k: int, rng: np.random.Generator) -> None:
    scores = rng.permutation(n).astype(np.float32) + 1  # 1..n, so that the k-th smallest is k
    assert conformal_threshold(scores, alpha) == OperatingPoint(float(k), alpha, n, guaranteed=True)


@given(finite_scores, per_mille)
def test_the_rank_agrees_with_integer_arithmetic(scores: np.ndarray, thousandths: int) -> None:
    point = conformal_threshold(scores, thousandths / 1000)
    k = -(-(len(scores) + 1) * (1000 - thousandths) // 1000)
    assert point.guaranteed == (k <= len(scores))
    assert point.threshold == float(np.sort(scores)[min(k, len(scores)) - 1])


@given(finite_scores, per_mille)
def test_the_threshold_is_one_of_the_float32_scores_exactly(scores: np.ndarray, thousandths: int) -> None:
    point = conformal_threshold(scores, thousandths / 1000)
    stored = from_dict(OperatingPoint, json.loads(json.dumps(to_dict(point)))).threshold
    assert np.float32(stored) in scores
    assert not (np.float32(stored) > stored)  # the part it came from passes, after a trip through JSON as well
    rejected = np.count_nonzero(scores > stored)
    assert Fraction(int(rejected), len(scores) + 1) <= Fraction(thousandths, 1000) or not point.guaranteed


@given(finite_scores, per_mille, per_mille)
def test_a_larger_alpha_never_raises_the_threshold(scores: np.ndarray, first: int, second: int) -> None:
    low, high = sorted((first / 1000, second / 1000))
    assert conformal_threshold(scores, high).threshold <= conformal_threshold(scores, low).threshold


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 9), (0.01, 99), (0.001, 999), (0.5, 1), (0.3, 3), (0.07, 14), (0.9, 1)])
def test_images_needed_is_the_edge_of_the_guarantee(alpha: float, n: int) -> None:
    assert images_needed(alpha) == n
    assert conformal_threshold(np.arange(n, dtype=np.float32), alpha).guaranteed
    if n > 1:
        assert not conformal_threshold(np.arange(n - 1, dtype=np.float32), alpha).guaranteed


def test_too_few_images_take_the_maximum_and_say_how_many_are_needed() -> None:
    point = conformal_threshold(np.array([3, 1, 2], np.float32), 0.01)
    assert point == OperatingPoint(3.0, 0.01, 3, guaranteed=False)
    warning = guarantee_warning(point)
    assert warning is not None
    for words in ("1% false rejects takes 99 good", "there are 3", "25% on average at best", "Add 96 more"):
        assert words in warning
    assert guarantee_text(point) == warning


def test_a_guarantee_is_said_in_words() -> None:
    point = conformal_threshold(np.arange(199, dtype=np.float32), 0.005)
    assert guarantee_warning(point) is None
    assert "At most 0.5% of good parts are rejected" in guarantee_text(point)
    assert "at most 1.15% with 90% confidence" in guarantee_text(point)
    assert "199 good images" in guarantee_text(point)


def test_a_threshold_set_by_hand_claims_nothing() -> None:
    warning = guarantee_warning(OperatingPoint(0.5, 0.01, 1000, guaranteed=False))
    assert warning == "No guarantee: this threshold was not computed from the scores of good calibration images."


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.01), (120, 0.05), (37, 0.1)])
def test_the_false_reject_rate_holds_on_new_parts(n: int, alpha: float, rng: np.random.Generator) -> None:
    # Each split draws a new calibration set and one new part: independent trials with a known probability,
    # (n + 1 - k) / (n + 1), when scores have no ties.
    splits = 20_000
    k = math.ceil((n + 1) * (1 - Fraction(str(alpha))))
    expected = (n + 1 - k) / (n + 1)
    scores = rng.standard_exponential((splits, n + 1), dtype=np.float32)
    thresholds = np.array([conformal_threshold(row[:-1], alpha).threshold for row in scores], np.float32)
    rate = np.mean(scores[:, -1] > thresholds)
    spread = 4 * math.sqrt(expected * (1 - expected) / splits)  # four standard deviations of a binomial share
    assert expected <= alpha
    assert rate <= alpha + spread
    assert rate >= expected - spread  # not vacuous: the threshold rejects what it may
    assert expected > alpha - 1 / (n + 1)


def test_the_rate_holds_on_a_finite_lot_with_ties(rng: np.random.Generator) -> None:
    lot = rng.integers(0, 12, 400).astype(np.float32)  # many equal scores; exchangeable under re-splitting
    rates = []
    for _ in range(2000):
        shuffled = rng.permutation(lot)
        rates.append(np.mean(shuffled[200:] > conformal_threshold(shuffled[:200], 0.1).threshold))
    assert np.mean(rates) <= 0.1


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.5), (40, 0.01), (99, 0.01), (120, 0.05), (5000, 0.1)])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_the_bound_is_the_quantile_of_a_beta_distribution(n: int, alpha: float, confidence: float) -> None:
    k = min(math.ceil((n + 1) * (1 - Fraction(str(alpha)))), n)
    point = OperatingPoint(0.0, alpha, n, guaranteed=True)
    assert false_reject_bound(point, confidence) == pytest.approx(beta.ppf(confidence, n + 1 - k, k), rel=1e-9)


@pytest.mark.parametrize(("n", "alpha"), [(30, 0.01), (120, 0.05)])  # too few for alpha; enough
def test_the_bound_holds_as_often_as_it_says(n: int, alpha: float, rng: np.random.Generator) -> None:
    # Uniform scores: the false-reject rate of a threshold t is exactly 1 - t.
    points = [conformal_threshold(rng.random(n), alpha) for _ in range(4000)]
    bound = false_reject_bound(points[0], 0.9)
    held = np.mean([1 - point.threshold <= bound for point in points])
    assert abs(held - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 4000)


def test_good_parts_without_a_marked_pixel(rng: np.random.Generator) -> None:
    maps = rng.standard_normal((4000, 12, 12)).cumsum(axis=2)  # pixels that depend on each other
    maxima = maps.max(axis=(1, 2))
    threshold = pixel_threshold(maxima[:2000], 0.05)
    assert threshold in maxima[:2000]
    marked = np.mean((maps[2000:] > threshold).any(axis=(1, 2)))
    assert 0.02 < marked < 0.08


@pytest.mark.parametrize(
    ("n_good", "alpha", "n_calibration"),
    [
        (761, 0.01, 152),  # the usual fifth is enough
        (495, 0.01, 99),
        (494, 0.01, 99),  # a fifth would be one image short
        (198, 0.01, 99),  # half of the images and not one more
        (197, 0.01, 39),  # out of reach: none is taken from training for nothing
        (40, 0.05, 19),
    ],
)
def test_few_images_go_to_calibration_where_that_wins_the_guarantee(
    n_good: int, alpha: float, n_calibration: int
) -> None:
    assert round(n_good * calibration_share(n_good, alpha)) == n_calibration


def test_statistics_are_of_the_population() -> None:
    scores = np.array([1, 2, 3, 6], np.float32)
    assert score_statistics(scores) == ScoreStatistics(n=4, mean=3.0, std=math.sqrt(3.5), min=1.0, median=2.5, max=6.0)
    assert score_statistics(scores[:1]) == ScoreStatistics(n=1, mean=1.0, std=0.0, min=1.0, median=1.0, max=1.0)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_alpha_outside_0_to_1_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        conformal_threshold(np.ones(10, np.float32), alpha)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        images_needed(alpha)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.empty(0, np.float32), "at least one good image"),
        (np.ones((2, 2), np.float32), r"shape \(2, 2\)"),
        (np.array([1, np.nan, np.inf], np.float32), "2 of 3 calibration scores are not finite"),
    ],
)
def test_unusable_scores_are_refused(scores: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        conformal_threshold(scores, 0.1)
    with pytest.raises(DataError, match=words):
        score_statistics(scores)


# --- several images of a part

grouped_scores = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=st.floats(-1e6, 1e6, width=32)),
        st.lists(st.integers(0, 12).map(str), min_size=n, max_size=n),
    )
)


def weight_of(scores: np.ndarray, parts: list[str], threshold: float) -> Fraction:
    """The share of the parts' weight at or below a threshold, one more part counted as above."""
    sizes = {part: parts.count(part) for part in parts}
    held = (Fraction(1, sizes[part]) for part, score in zip(parts, scores, strict=True) if score <= threshold)
    return sum(held, Fraction(0)) / (len(sizes) + 1)


@given(grouped_scores, per_mille)
def test_of_parts_it_is_the_smallest_score_with_enough_weight(
    drawn: tuple[np.ndarray, list[str]], thousandths: int
) -> None:
    scores, parts = drawn
    point = conformal_threshold(scores, thousandths / 1000, parts)
    needed = 1 - Fraction(thousandths, 1000)
    n_parts = len(set(parts))
    assert point.n_parts == (None if n_parts == len(scores) else n_parts)
    assert point.guaranteed == (n_parts >= images_needed(thousandths / 1000))
    assert np.float32(point.threshold) in scores
    if not point.guaranteed:
        assert point.threshold == scores.max()
        return
    assert weight_of(scores, parts, point.threshold) >= needed
    below = [score for score in scores if score < point.threshold]
    assert not below or weight_of(scores, parts, float(max(below))) < needed


@given(finite_scores, per_mille)
def test_one_image_a_part_is_the_plain_threshold(scores: np.ndarray, thousandths: int) -> None:
    alpha = thousandths / 1000
    parts = [f"part {i}" for i in range(len(scores))]
    assert conformal_threshold(scores, alpha, parts) == conformal_threshold(scores, alpha)
    assert pixel_threshold(scores, alpha, parts) == pixel_threshold(scores, alpha)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.integers(2, 4), per_mille)
def test_pictures_that_are_all_alike_count_as_one(scores: list[float], copies: int, thousandths: int) -> None:
    alone = conformal_threshold(np.array(scores, np.float32), thousandths / 1000)
    parts = [str(i) for i in range(len(scores)) for _ in range(copies)]
    point = conformal_threshold(np.repeat(np.array(scores, np.float32), copies), thousandths / 1000, parts)
    assert (point.threshold, point.guaranteed, point.n_parts) == (alone.threshold, alone.guaranteed, len(scores))
    assert false_reject_bound(point) == false_reject_bound(alone)


@given(grouped_scores, per_mille, per_mille)
def test_of_parts_a_larger_alpha_never_raises_the_threshold(
    drawn: tuple[np.ndarray, list[str]], first: int, second: int
) -> None:
    low, high = sorted((first / 1000, second / 1000))
    assert conformal_threshold(drawn[0], high, drawn[1]).threshold <= (
        conformal_threshold(drawn[0], low, drawn[1]).threshold
    )


@given(grouped_scores, per_mille, st.data())
def test_a_larger_score_never_lowers_the_threshold(
    drawn: tuple[np.ndarray, list[str]], thousandths: int, data: st.DataObject
) -> None:
    scores, parts = drawn
    raised = scores + data.draw(hnp.arrays(np.float32, len(scores), elements=st.floats(0, 100, width=32)))
    alpha = thousandths / 1000
    assert conformal_threshold(raised, alpha, parts).threshold >= conformal_threshold(scores, alpha, parts).threshold


@given(grouped_scores, per_mille)
def test_a_point_of_parts_is_held_against_its_statistics(drawn: tuple[np.ndarray, list[str]], thousandths: int) -> None:
    scores, parts = drawn
    point = conformal_threshold(scores, thousandths / 1000, parts)
    check_threshold(point, score_statistics(scores))
    beyond = float(scores.max()) + 1 + abs(float(scores.max()))
    wrong = [dataclasses.replace(point, n_parts=n_parts) for n_parts in (0, -1, len(scores) + 1)]
    for made_up in (*wrong, dataclasses.replace(point, guaranteed=True, threshold=beyond)):
        with pytest.raises(ConfigError):
            check_threshold(made_up, score_statistics(scores))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("within", [0.0, 0.3, 1.0])  # spread of a part's pictures, beside 1 between parts
def test_the_rate_holds_on_new_parts_with_several_pictures(
    alpha: float, within: float, rng: np.random.Generator
) -> None:
    # Fewer pictures of high scores, so that the sizes of parts tell of their scores: exchangeable parts all the same.
    n_parts, lots = images_needed(alpha) + 30, 1000
    rejected = []
    for _ in range(lots):
        levels = rng.standard_normal(n_parts + 1)
        sizes = np.where(levels > 1, 1, rng.integers(1, 8, n_parts + 1))
        parts = np.repeat(np.arange(n_parts + 1), sizes)
        scores = levels[parts] + within * rng.standard_normal(len(parts))
        known = parts < n_parts
        point = conformal_threshold(scores[known], alpha, [str(part) for part in parts[known]])
        assert point.guaranteed
        rejected.append(np.mean(scores[~known] > point.threshold))
    assert np.mean(rejected) <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / lots)
    assert np.mean(rejected) > alpha / 4  # not vacuous


def test_the_guarantee_rests_on_the_parts_and_says_so() -> None:
    scores, parts = np.repeat(np.arange(40, dtype=np.float32), 6), [str(i) for i in range(40) for _ in range(6)]
    point = conformal_threshold(scores, 0.01, parts)
    assert conformal_threshold(scores, 0.01).guaranteed
    assert (point.guaranteed, point.n_parts, point.n_calibration) == (False, 40, 240)
    warning = guarantee_warning(point)
    assert warning is not None
    for words in ("takes 99 good calibration parts, there are 40, in 240 images", "2.44% on average", "Add 59 more"):
        assert words in warning
    text = guarantee_text(conformal_threshold(scores, 0.05, parts))
    assert "240 pictures of 40 parts" in text
    assert "at most 9.38% with 90% confidence" in text


@pytest.mark.parametrize("parts", [[], ["a"], ["a", "b", "c"]])
def test_a_part_for_each_score(parts: list[str]) -> None:
    with pytest.raises(DataError, match=f"part of each of 2 images, found {len(parts)}"):
        conformal_threshold(np.ones(2, np.float32), 0.5, parts)


def test_millions_of_images_take_no_longer_than_hundreds() -> None:
    assert rate_bound(10_000_000, 5_000_000, 0.999) == pytest.approx(0.5 + 3.09 * 0.5 / 10_000_000**0.5, abs=1e-5)
    assert rate_bound(10_000_000, 0, 0.999) == pytest.approx(math.log(1000) / 10_000_000, rel=1e-4)
