"""Figures against hand-computed cases, scikit-learn and an independent, naive AUPRO."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simplenet_edge.evaluation.metrics import (
    PixelScores,
    aupro,
    average_precision,
    best_f1,
    image_auroc,
    pixel_auroc,
    pixel_scores,
)

Array = Any  # an ndarray is a sequence of images, which its type doesn't say


def naive_aupro(maps: Array, masks: Array, limit: float) -> float:
    """The definition, step by step: every threshold, every region, the trapezoid rule, cut at the limit."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(index, labels == region) for region in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        rates.append(float(np.mean(maps[~masks] >= threshold)))
        overlaps.append(float(np.mean([np.mean(maps[index][region] >= threshold) for index, region in regions])))
    cut = float(np.interp(limit, rates, overlaps)) if limit not in rates else None
    below = [(x, y) for x, y in zip(rates, overlaps, strict=True) if x <= limit]
    curve = below if cut is None else [*below, (limit, cut)]
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(curve)) / limit


def naive_f1(rejected: Array, labels: Array) -> float:
    return 2 * float(np.sum(rejected & labels)) / float(np.sum(rejected) + np.sum(labels))


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[Array, Array]:
    """Small images with both kinds of pixels and few distinct values, so with many ties."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6)))
    maps = draw(hnp.arrays(np.float32, shape, elements=st.integers(-3, 3).map(float)))
    masks = draw(hnp.arrays(np.bool_, shape))
    masks[0, 0, 0], masks[0, 0, 1] = True, False
    return maps, masks


@given(maps_and_masks(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_aupro_is_what_the_definition_says(case: tuple[Array, Array], limit: float) -> None:
    maps, masks = case
    assert aupro(pixel_scores(maps, masks), limit=limit) == pytest.approx(naive_aupro(maps, masks, limit), abs=1e-12)


def test_aupro_without_ties_is_what_the_definition_says(rng: np.random.Generator) -> None:
    maps: Array = rng.standard_normal((4, 24, 20), dtype=np.float32)
    masks: Array = np.zeros(maps.shape, np.bool_)
    masks[1, 2:9, 3:6] = masks[1, 15:17, 10:18] = masks[2, 5, 5] = masks[3, :, :4] = True
    maps[masks] += 1
    assert aupro(pixel_scores(maps, masks)) == pytest.approx(naive_aupro(maps, masks, 0.3), abs=1e-12)


def _image(*rows: Sequence[float]) -> Array:
    return np.array([rows], np.float32)


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "limit", "expected"),
    [
        (_image([9, 1, 1, 1]), _image([1, 0, 0, 0]), 0.3, 1.0),  # perfect
        (_image([0, 1, 1, 1]), _image([1, 0, 0, 0]), 0.3, 0.0),  # found last
        (_image([1, 1, 1, 1]), _image([1, 0, 0, 0]), 0.3, 0.15),  # constant: the diagonal, limit / 2
        (_image([1, 1, 1, 1]), _image([1, 0, 0, 0]), 1.0, 0.5),  # constant, whole curve
        # A found region of 3 pixels and a missed one of 1 pixel count the same: 1/2, not 3/4.
        (_image([9, 9, 9, 1, 0, 1]), _image([1, 1, 1, 0, 1, 0]), 0.3, 0.5),
        # One region of 4 pixels, half of it found at once, the rest last.
        (_image([9, 9, 0, 0, 1, 1]), _image([1, 1, 1, 1, 0, 0]), 0.3, 0.5),
        # Found after one of 4 normal pixels: 0 up to a rate of 1/4, then 1 up to 1/2.
        (_image([5, 9, 1, 1, 1]), _image([1, 0, 0, 0, 0]), 0.5, 0.5),
        # Equal to one of 2 normal pixels: a line from 0 to 1 over rates 0 to 1/2, its area to 1/4 is 1/16.
        (_image([5, 5, 1]), _image([1, 0, 0]), 0.25, 0.25),
        # Pixels that touch at a corner are one region, here half found, beside a found one: (1/2 + 1) / 2; with
        # 4-connected regions it would be (1 + 0 + 1) / 3.
        (_image([9, 1, 1, 9], [1, 0, 1, 1]), _image([1, 0, 0, 1], [0, 1, 0, 0]), 0.3, 0.75),
    ],
)
def test_aupro_by_hand(anomaly_map: Array, mask: Array, limit: float, expected: float) -> None:
    pixels = pixel_scores(anomaly_map, mask > 0)
    assert aupro(pixels, limit=limit) == pytest.approx(expected, abs=1e-12)


@given(maps_and_masks())
def test_pixel_auroc_agrees_with_scikit_learn(case: tuple[Array, Array]) -> None:
    maps, masks = case
    expected = sklearn.metrics.roc_auc_score(masks.ravel(), maps.ravel())
    assert pixel_auroc(pixel_scores(maps, masks)) == pytest.approx(expected, abs=1e-12)


@given(maps_and_masks(), maps_and_masks())
def test_groups_together_are_one_pool(first: tuple[Array, Array], second: tuple[Array, Array]) -> None:
    maps, masks = [*first[0], *second[0]], [*first[1], *second[1]]
    groups = pixel_scores(*first), pixel_scores(*second)
    pool = pixel_scores(maps, masks)
    assert aupro(*groups) == pytest.approx(aupro(pool), abs=1e-12)
    assert pixel_auroc(*groups) == pytest.approx(pixel_auroc(pool), abs=1e-12)


@given(maps_and_masks())
def test_only_the_order_of_pixels_matters(case: tuple[Array, Array]) -> None:
    maps, masks = case
    changed = pixel_scores(np.exp(maps) - 7, masks)  # an increasing function of the score
    assert aupro(changed) == aupro(pixel_scores(maps, masks))


def test_pixels_are_sorted_and_every_region_weighs_one(rng: np.random.Generator) -> None:
    maps: Array = rng.standard_normal((2, 8, 8), dtype=np.float32)
    masks: Array = np.zeros(maps.shape, np.bool_)
    masks[0, 1:3, 1:3] = masks[1, 0, 0] = masks[1, 5:, 5:] = True
    pixels = pixel_scores(maps, masks)
    assert isinstance(pixels, PixelScores)
    assert np.array_equal(pixels.normal, np.sort(maps[~masks]))
    assert np.array_equal(pixels.defective, np.sort(maps[masks]))
    assert pixels.region_share.sum() == pytest.approx(3)
    assert maps.dtype == pixels.normal.dtype == np.float32  # nothing is rounded on the way


@given(
    hnp.arrays(np.float32, st.shared(st.integers(2, 40), key="n"), elements=st.integers(-5, 5).map(float)),
    hnp.arrays(np.bool_, st.shared(st.integers(2, 40), key="n")),
)
def test_best_f1_is_the_best_of_all_thresholds(scores: Array, labels: Array) -> None:
    labels[0], labels[1] = True, False
    best = best_f1(scores, labels)
    assert best is not None
    assert best.f1 == pytest.approx(max(naive_f1(scores > t, labels) for t in (scores.min() - 1, *scores)))
    assert best.f1 == pytest.approx(naive_f1(scores > best.threshold, labels))


def test_image_figures_by_hand() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    labels = np.array([False, False, True, True])
    assert image_auroc(scores, labels) == 0.75  # 3 of the 4 pairs are in order
    assert average_precision(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    best = best_f1(scores, labels)
    assert best is not None
    assert best.f1 == pytest.approx(0.8)
    assert best.threshold == float(np.float32(0.1))


def test_best_f1_that_rejects_everything_has_a_finite_threshold_below_all() -> None:
    scores = np.array([1, 2, 3], np.float32)
    best = best_f1(scores, np.array([True, True, False]))
    assert best is not None
    assert best.f1 == pytest.approx(0.8)
    assert (scores > np.float32(best.threshold)).all()
    assert np.isfinite(best.threshold)


@pytest.mark.parametrize("labels", [np.ones(3, np.bool_), np.zeros(3, np.bool_), np.empty(0, np.bool_)])
def test_one_class_only_has_no_image_figures(labels: Array) -> None:
    scores = np.arange(len(labels), dtype=np.float32)
    assert image_auroc(scores, labels) is None
    assert average_precision(scores, labels) is None
    assert best_f1(scores, labels) is None


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_pixel_has_no_pixel_figures(value: bool) -> None:
    pixels = pixel_scores([np.ones((3, 4), np.float32)], [np.full((3, 4), value)])
    assert pixel_auroc(pixels) is None
    assert aupro(pixels) is None


def test_no_images_have_no_pixel_figures() -> None:
    assert pixel_auroc() is None
    assert aupro(pixel_scores([], [])) is None
