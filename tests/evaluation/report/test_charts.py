"""The charts as drawings: well-formed, complete, on the right side of the threshold."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from simplenet_edge.evaluation.report.charts import roc_svg, score_histogram_svg, trade_off_svg

scores = st.lists(st.floats(-1e3, 1e3, width=32), max_size=40)


def bars(svg: str, name: str) -> list[tuple[float, float, float, int]]:
    """(left, right, height, images) of the bars of one kind; fails where the SVG is not XML."""
    return [
        (
            float(bar.attrib["x"]),
            float(bar.attrib["x"]) + float(bar.attrib["width"]),
            float(bar.attrib["height"]),
            int(re.match(r"\d+", bar[0].text or "")[0]),  # type: ignore[index]
        )
        for bar in ElementTree.fromstring(svg).iter("rect")
        if bar.attrib["class"] == f"bar {name}"
    ]


def threshold_x(svg: str) -> float:
    (line,) = (e for e in ElementTree.fromstring(svg).iter("line") if e.attrib["class"] == "threshold")
    return float(line.attrib["x1"])


@given(scores, scores, st.floats(-1e3, 1e3, width=32))
def test_every_image_is_in_a_bar_on_its_side_of_the_threshold(
    good: list[float], defective: list[float], threshold: float
) -> None:
    svg = score_histogram_svg(good, defective, threshold)
    at = threshold_x(svg)
    for name, values in (("good", good), ("defective", defective)):
        drawn = bars(svg, name)
        assert sum(images for *_, images in drawn) == len(values)
        assert sum(images for left, _, _, images in drawn if left > at - 0.2) == sum(v > threshold for v in values)
        assert all(0 <= left < right <= 420 and height > 0 for left, right, height, _ in drawn)


@pytest.mark.parametrize("value", [0.0, 1e-12, -3.25, 7e5])
def test_equal_scores_at_the_threshold_are_one_accepted_bar(value: float) -> None:
    svg = score_histogram_svg([value] * 7, [], value)
    ((_, right, _, images),) = bars(svg, "good")
    assert images == 7
    assert right <= threshold_x(svg)


@pytest.mark.parametrize(("tallest", "logarithmic"), [(50, False), (51, True), (5000, True)])
def test_counts_go_logarithmic_when_one_image_would_be_too_low(tallest: int, logarithmic: bool) -> None:
    svg = score_histogram_svg([0.0] * tallest, [5.0], 1.0)
    assert ("log scale" in svg) == logarithmic
    assert min(height for _, _, height, _ in bars(svg, "defective")) > 1.5


def test_the_roc_curve_passes_through_the_operating_point() -> None:
    svg = roc_svg(np.array([0.0, 0.0, 0.25, 1.0]), np.array([0.0, 0.5, 1.0, 1.0]), (0.25, 1.0))
    root = ElementTree.fromstring(svg)
    (curve,) = root.iter("polyline")
    (point,) = root.iter("circle")
    points = [tuple(map(float, pair.split(","))) for pair in curve.attrib["points"].split()]
    assert (float(point.attrib["cx"]), float(point.attrib["cy"])) == points[2]
    assert points == sorted(points, key=lambda p: (p[0], -p[1]))
    assert (points[0][1] - points[1][1]) == pytest.approx((points[0][1] - points[3][1]) / 2)


@given(scores.filter(len), scores.filter(len), st.floats(-1e3, 1e3, width=32), st.floats(0.0005, 0.6))
@settings(max_examples=60)
def test_the_trade_off_is_steps_through_the_operating_point(
    good: list[float], defective: list[float], threshold: float, alpha: float
) -> None:
    """Whatever the threshold, a curve of steps between scores passes through what it gives, left to right, upwards."""
    labels = np.repeat([False, True], [len(good), len(defective)])
    false_rejects, hits, _ = roc_curve(labels, np.array([*good, *defective]), drop_intermediate=False)
    at = (float(np.mean(np.array(good) > threshold)), float(np.mean(np.array(defective) > threshold)))
    root = ElementTree.fromstring(trade_off_svg(false_rejects, hits, at, alpha, len(good)))
    (curve,), (point,) = root.iter("polyline"), root.iter("circle")
    corners = [tuple(map(float, pair.split(","))) for pair in curve.attrib["points"].split()]
    assert (float(point.attrib["cx"]), float(point.attrib["cy"])) in corners
    assert all(a == c or b == d for (a, b), (c, d) in itertools.pairwise(corners))
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)
    assert [y for _, y in corners] == sorted((y for _, y in corners), reverse=True)
    assert all(0 <= x <= 420 and 0 <= y <= 290 for x, y in corners)
    assert 46 <= threshold_x(ElementTree.tostring(root, encoding="unicode")) <= 400


def test_one_decade_of_false_rejects_is_as_wide_as_the_next() -> None:
    rates = np.array([0.0, 0.001, 0.01, 0.1, 1.0])
    svg = trade_off_svg(rates, np.array([0.2, 0.4, 0.6, 0.8, 1.0]), (0.01, 0.6), 0.01, 5000)
    root = ElementTree.fromstring(svg)
    (curve,) = root.iter("polyline")
    places = sorted({float(pair.split(",")[0]) for pair in curve.attrib["points"].split()})
    gaps = np.diff(places[1:])
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.11)
    assert threshold_x(svg) == pytest.approx(places[2], abs=0.1)
    assert all(f">{text}<" in svg for text in ("0", "0.1%", "1%", "10%", "100%"))
