"""The report's charts as inline SVG text, with no plotting library.

Colours and fonts come from the page through CSS classes (`report.css`), so the charts follow its light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from simplenet_edge.evaluation.visibility import Curve

__all__ = ["agreement_svg", "pod_svg", "relative_histogram_svg", "roc_svg", "score_histogram_svg", "trade_off_svg"]

_WIDTH, _HEIGHT = 420, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 30, 44  # margins around the plot, in units of the drawing
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_BINS = 40
_CELLS = 44  # of the plot of one score over another, along each side
_LINEAR_UP_TO = 50  # images in the tallest bar; above, one image is too low to see and counts go logarithmic


def score_histogram_svg(good: Sequence[float], defective: Sequence[float], threshold: float) -> str:
    """Raw scores of good images, upwards, and defective ones, downwards; the threshold lies between two bins."""
    edges, counts = _histogram([np.asarray(good, np.float64), np.asarray(defective, np.float64)], threshold)
    highest = max(1, *(int(count.max()) for count in counts))
    logarithmic = highest > _LINEAR_UP_TO
    floor, top = (math.log10(0.6), math.log10(highest * 1.2)) if logarithmic else (0.0, highest * 1.08)
    ticks = [10.0**k for k in range(7) if 10**k <= highest] if logarithmic else _ticks(0, top, 3, whole=True)
    middle = _TOP + _PLOT_HEIGHT * (0.5 if good and defective else 1.0 if good else 0.0)

    def x(score: float) -> float:
        return _LEFT + _PLOT_WIDTH * (score - edges[0]) / (edges[-1] - edges[0])

    def height(images: float, room: float) -> float:
        return room * ((math.log10(images) if logarithmic else images) - floor) / (top - floor)

    parts = []
    for name, count, room, down in (
        ("good", counts[0], middle - _TOP, False),
        ("defective", counts[1], _TOP + _PLOT_HEIGHT - middle, True),
    ):
        if room:
            parts += _grid([(middle + height(tick, room) * (1 if down else -1), f"{tick:g}") for tick in ticks])
        for left, right, images in zip(edges, edges[1:], count.tolist(), strict=False):
            if images:
                parts.append(
                    f'<rect class="bar {name}" x="{x(left) + 0.5:.1f}" '
                    f'y="{middle - (0 if down else height(images, room)):.1f}" '
                    f'width="{x(right) - x(left) - 1:.1f}" height="{height(images, room):.1f}">'
                    f"<title>{images} {name}, score {left:.4g} to {right:.4g}</title></rect>"
                )
    at = x(threshold)
    side, anchor = (-6, "end") if at > _LEFT + _PLOT_WIDTH * 0.6 else (6, "start")
    parts += [
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{middle}" y2="{middle}"/>',
        f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 12}" y2="{_TOP + _PLOT_HEIGHT}"/>',
        f'<text class="threshold-label" x="{at + side:.1f}" y="{_TOP - 4}" text-anchor="{anchor}">'
        f"threshold {threshold:.4g}</text>",
        *_axis_texts([(x(tick), text) for tick, text in _labelled(edges[0], edges[-1])], "score"),
        _y_label("images (log scale)" if logarithmic else "images"),
    ]
    return _svg("Histogram of the scores of good and defective images", parts)


def roc_svg(
    false_rejects: npt.NDArray[np.float64], hits: npt.NDArray[np.float64], operating_point: tuple[float, float]
) -> str:
    """ROC curve, rates `(n,)` ascending within 0..1, and the operating point (false-reject rate, recall) on it."""

    def x(rate: float) -> float:
        return _LEFT + _PLOT_WIDTH * rate

    def y(rate: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - rate)

    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(false_rejects.tolist(), hits.tolist(), strict=True))
    at_x, at_y = x(operating_point[0]), y(operating_point[1])
    side, anchor = (10, "start") if operating_point[0] < 0.6 else (-10, "end")
    ticks = [(rate, f"{rate:.0%}") for rate in (0, 0.25, 0.5, 0.75, 1)]
    return _svg(
        "ROC curve with the operating point",
        [
            *_grid([(y(rate), text) for rate, text in ticks]),
            f'<polygon class="area" points="{x(0)},{y(0)} {line} {x(1)},{y(0)}"/>',
            f'<line class="chance" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>',
            f'<line class="axis" x1="{x(0)}" x2="{x(1)}" y1="{y(0)}" y2="{y(0)}"/>',
            f'<polyline class="curve" points="{line}"/>',
            f'<circle class="point" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>',
            f'<text class="threshold-label" x="{at_x + side:.1f}" '
            f'y="{at_y + (20 if operating_point[1] > 0.12 else -8):.1f}" text-anchor="{anchor}">operating point</text>',
            *_axis_texts([(x(rate), text) for rate, text in ticks], "good parts rejected"),
            _y_label("defective parts rejected"),
        ],
    )


def trade_off_svg(
    false_rejects: npt.NDArray[np.float64],
    hits: npt.NDArray[np.float64],
    operating_point: tuple[float, float],
    alpha: float,
    n_good: int,
) -> str:
    """Recall over the false-reject rate, logarithmic, for each threshold; rates `(n,)` ascending within 0..1.

    The operating point (false-reject rate, recall) is marked, and `alpha`, which it was made for. No false reject among
    `n_good` parts stands at the left edge.
    """
    floor = min(0.5 / n_good, alpha / 2)

    def x(rate: float) -> float:
        return _LEFT + _PLOT_WIDTH * (1 - math.log(max(rate, floor)) / math.log(floor))

    def y(rate: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - rate)

    corners = [(false_rejects[0], hits[0])]
    for rate, hit in zip(false_rejects.tolist(), hits.tolist(), strict=True):
        corners += [(rate, corners[-1][1]), (rate, hit)]  # a threshold between two scores gives no point between
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners)
    at_x, at_y = x(operating_point[0]), y(operating_point[1])
    decades = [rate for rate in (1e-4, 1e-3, 1e-2, 0.1, 1.0) if rate > 1.6 * floor]
    ticks = [(x(0), "0"), *((x(rate), f"{100 * rate:g}%") for rate in decades)]
    side, anchor = (10, "start") if at_x < _LEFT + _PLOT_WIDTH * 0.6 else (-10, "end")
    return _svg(
        "Recall against false rejects with the operating point",
        [
            *_grid([(y(rate), f"{rate:.0%}") for rate in (0, 0.25, 0.5, 0.75, 1)]),
            f'<line class="threshold" x1="{x(alpha):.1f}" x2="{x(alpha):.1f}" y1="{y(1)}" y2="{y(0)}"/>',
            f'<text x="{x(alpha) + 5:.1f}" y="{y(0) - 7:.1f}">alpha {100 * alpha:g}%</text>',
            f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y(0)}" y2="{y(0)}"/>',
            f'<polyline class="curve" points="{line}"/>',
            f'<circle class="point" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>',
            f'<text class="threshold-label" x="{at_x + side:.1f}" '
            f'y="{at_y + (20 if operating_point[1] > 0.12 else -8):.1f}" text-anchor="{anchor}">operating point</text>',
            *_axis_texts(ticks, "good parts rejected (log scale)"),
            _y_label("defective parts rejected"),
        ],
    )


def pod_svg(curves: Sequence[Curve], shown_contrast: float) -> str:
    """POD against size, logarithmic, a curve per contrast; that of `shown_contrast` with its interval and hit rates."""
    sizes = [size for curve in curves for size in curve.sizes_px]
    low, high = math.log(min(sizes)), max(math.log(max(sizes)), math.log(min(sizes)) + 1e-6)

    def x(size: float) -> float:
        return _LEFT + _PLOT_WIDTH * (math.log(size) - low) / (high - low)

    def y(rate: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - rate)

    def line(sizes: Sequence[float], rates: Sequence[float]) -> str:
        return " ".join(f"{x(size):.1f},{y(rate):.1f}" for size, rate in zip(sizes, rates, strict=True))

    parts = [
        *_grid([(y(rate), f"{rate:.0%}") for rate in (0, 0.25, 0.5, 0.75, 1)]),
        f'<line class="threshold" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y(0.9):.1f}" y2="{y(0.9):.1f}"/>',
        f'<text class="threshold-label" x="{_LEFT + 4}" y="{y(0.9) - 4:.1f}">90 %</text>',
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y(0)}" y2="{y(0)}"/>',
    ]
    for curve in curves:
        shown = curve.contrast == shown_contrast
        half = next((i for i, rate in enumerate(curve.pod) if rate >= 0.5), len(curve.pod) - 1)
        if shown:
            ends = f"{line(curve.sizes_px, curve.low)} {line(curve.sizes_px[::-1], curve.high[::-1])}"
            parts.append(f'<polygon class="area" points="{ends}"/>')
        style = "" if shown else ' style="stroke-opacity:.45"'
        parts += [
            f'<polyline class="curve" points="{line(curve.sizes_px, curve.pod)}"{style}>'
            f"<title>contrast {curve.contrast:.0%}</title></polyline>",
            f'<text x="{x(curve.sizes_px[half]) - 6:.1f}" y="{y(curve.pod[half]) - 5:.1f}" text-anchor="end">'
            f"{curve.contrast:.0%}</text>",
        ]
        parts += [
            f'<circle class="point" cx="{x(size):.1f}" cy="{y(hits / n):.1f}" r="4">'
            f"<title>{hits} of {n} found</title></circle>"
            for size, n, hits in (curve.found if shown else ())
        ]
    ticks = [size for size in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low <= math.log(size) <= high]
    return _svg(
        "Probability of detection against size",
        [
            *parts,
            *_axis_texts([(x(size), str(size)) for size in ticks], "size in pixels (log scale)"),
            _y_label("defects found"),
        ],
    )


def agreement_svg(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> str:
    """How many pictures have which score of the new model, upwards, for which of the old one; relative scores `(n,)`.

    Cells are darker the more pictures are in them, by the logarithm; those in which the verdicts differ have their own
    colour. Both thresholds are at 1.
    """
    (low, high), counts = _span(old, new), np.zeros((_CELLS, _CELLS), np.int64)
    cell = (high - low) / _CELLS
    below = math.ceil((1 - low) / cell)  # cells up to the threshold, which lies between two

    def index(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        cells = np.ceil((scores - 1) / cell).astype(np.int64) - 1 + below
        cells = np.where(scores > 1, np.maximum(cells, below), np.minimum(cells, below - 1))
        return np.clip(cells, 0, _CELLS - 1)

    np.add.at(counts, (index(old), index(new)), 1)
    start = 1 - below * cell  # the left end of the first cell

    def x(score: float) -> float:
        return _LEFT + _PLOT_WIDTH * (score - start) / (_CELLS * cell)

    def y(score: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - (score - start) / (_CELLS * cell))

    most, width, height = math.log1p(counts.max()), _PLOT_WIDTH / _CELLS, _PLOT_HEIGHT / _CELLS
    ticks = _labelled(start, start + _CELLS * cell)
    parts = _grid([(y(tick), text) for tick, text in ticks])
    for i, j in np.argwhere(counts).tolist():
        kind = "good" if (i < below) == (j < below) else "defective"
        parts.append(
            f'<rect class="bar {kind}" style="fill-opacity:{0.25 + 0.75 * math.log1p(counts[i, j]) / most:.2f}" '
            f'x="{x(start + i * cell):.1f}" y="{y(start + (j + 1) * cell):.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"><title>{counts[i, j]} pictures</title></rect>'
        )
    parts += [
        f'<line class="threshold" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}"/>',
        f'<line class="threshold" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y(1):.1f}" y2="{y(1):.1f}"/>',
        *_axis_texts([(x(tick), text) for tick, text in ticks], "old"),
        _y_label("new"),
    ]
    return _svg("Scores of the new model over those of the old one", parts)


def relative_histogram_svg(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> str:
    """The relative scores `(n,)` of both models, the old one's upwards, the new one's downwards, logarithmic."""
    low, high = _span(old, new)
    edges = np.linspace(low, high, _BINS + 1)
    counts = [np.histogram(np.clip(scores, low, high), edges)[0].tolist() for scores in (old, new)]
    middle, room = _TOP + _PLOT_HEIGHT / 2, _PLOT_HEIGHT / 2
    top = math.log10(1.2 * max(map(max, counts)) / 0.6)

    def x(score: float) -> float:
        return _LEFT + _PLOT_WIDTH * (score - low) / (high - low)

    parts = []
    for name, count, down in (("good", counts[0], False), ("defective", counts[1], True)):
        for left, right, pictures in zip(edges.tolist(), edges[1:].tolist(), count, strict=False):
            height = room * math.log10(pictures / 0.6) / top if pictures else 0.0
            parts.append(
                f'<rect class="bar {name}" x="{x(left) + 0.5:.1f}" y="{middle - (0 if down else height):.1f}" '
                f'width="{x(right) - x(left) - 1:.1f}" height="{height:.1f}"><title>{pictures} pictures</title></rect>'
            )
    parts += [
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{middle}" y2="{middle}"/>',
        f'<line class="threshold" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_HEIGHT}"/>',
        *_axis_texts([(x(tick), text) for tick, text in _labelled(low, high)], "relative score"),
        _y_label("pictures (log scale)"),
    ]
    return _svg("Histogram of the scores of both models", parts)


def _span(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> tuple[float, float]:
    """From the lowest to the highest of the scores, the threshold within; the far ends are cut off at 1 in 1000."""
    both = np.concatenate([old, new])
    return min(0.0, float(np.quantile(both, 0.001))), max(1.5, float(np.quantile(both, 0.999)))


def _histogram(
    groups: Sequence[npt.NDArray[np.float64]], threshold: float
) -> tuple[list[float], list[npt.NDArray[np.int64]]]:
    """Bin edges, one of them the threshold, and the counts of each group; a bin holds left < score <= right."""
    everything = np.concatenate([*groups, [threshold]])
    low, high = float(everything.min()), float(everything.max())
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-3):  # all scores are the same: any width will do
        low, high = low - 0.5, high + 0.5
    width = (high - low) / _BINS
    n_accepted = max(math.ceil((threshold - low) / width - 1e-9), 1)  # bins up to the threshold
    n_rejected = max(math.ceil((high - threshold) / width - 1e-9), 1)
    edges = [threshold + width * k for k in range(-n_accepted, n_rejected + 1)]
    counts = []
    for scores in groups:
        bins = np.ceil((scores - threshold) / width).astype(np.int64) - 1 + n_accepted
        bins = np.where(scores > threshold, np.maximum(bins, n_accepted), np.minimum(bins, n_accepted - 1))
        counts.append(np.bincount(np.clip(bins, 0, len(edges) - 2), minlength=len(edges) - 1))
    return edges, counts


def _labelled(low: float, high: float) -> list[tuple[float, str]]:
    ticks = _ticks(low, high, 6)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    return [(tick, f"{tick:.{decimals}f}") for tick in ticks]


def _ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers within low..high, 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    return [k * step + 0.0 for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _grid(ticks: Sequence[tuple[float, str]]) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in ticks
    ]


def _axis_texts(ticks: Sequence[tuple[float, str]], label: str) -> list[str]:
    bottom = _TOP + _PLOT_HEIGHT
    return [
        *(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>' for x, text in ticks),
        f'<text class="label" x="{_LEFT + _PLOT_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{label}</text>',
    ]


def _y_label(text: str) -> str:
    return f'<text class="label" x="2" y="{_TOP - 16}">{text}</text>'


def _svg(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">\n{body}\n</svg>'
