"""A benchmark as SVG pictures that stand alone: the engines side by side, each call over the run, all percentiles.

Works on the plain JSON values of `BenchmarkResult.to_dict`. Light or dark follows the reader's system.
"""

from __future__ import annotations

import math
import re
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.benchmark.report import label

__all__ = ["plots"]

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 36, 44  # margins around the plot, in units of the drawing
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}.curve{fill:none;stroke:#0b62c4;stroke-width:1.5}"
    ".bar{fill:#0b62c4;fill-opacity:.35}.call{fill:#0b62c4;fill-opacity:.5}.paper{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.curve{stroke:#6fb1ff}.bar{fill:#6fb1ff}.call{fill:#6fb1ff}"
    ".paper{fill:#161616}}"
)
_PERCENTILES = (50, 90, 99, 99.9)


def plots(result: dict[str, Any]) -> dict[str, str]:
    """File names and SVG texts: `engines.svg` of single frames, and two for each measurement."""
    single = [row for row in result["results"] if row["scenario"] == "single-stream"]
    found = {"engines.svg": _engines(single)} if single else {}
    for row in result["results"]:
        name = re.sub(r"[^a-z0-9]+", "-", label(row).lower())
        calls_ms = np.array(row["samples_ms"], np.float64)
        found[f"{name}-calls.svg"] = _calls(label(row), calls_ms)
        found[f"{name}-percentiles.svg"] = _percentiles(label(row), calls_ms)
    return found


def _engines(rows: list[dict[str, Any]]) -> str:
    """The median of each engine and precision as a bar, with a line up to its 99th percentile."""
    figures = [np.percentile(row["samples_ms"], (50, 99)).tolist() for row in rows]
    top = max(p99 for _, p99 in figures) * 1.05
    bars, ticks = [], []
    for i, (row, (p50, p99)) in enumerate(zip(rows, figures, strict=True)):
        left, middle, right = (_x((i + share) / len(rows)) for share in (0.25, 0.5, 0.75))
        bars.append(
            f'<rect class="bar" x="{left:.1f}" y="{_y(p50, top):.1f}" width="{right - left:.1f}" '
            f'height="{_y(0, top) - _y(p50, top):.1f}"/>'
            f'<line class="curve" x1="{middle:.1f}" x2="{middle:.1f}" y1="{_y(p50, top):.1f}" y2="{_y(p99, top):.1f}"/>'
            f'<text x="{middle:.1f}" y="{_y(p99, top) - 4:.1f}" text-anchor="middle">{p50:.3g}, {p99:.3g}</text>'
        )
        ticks.append(((i + 0.5) / len(rows), f"{row['engine']} {row['precision']}"))
    return _svg("One frame at a time: median and 99th percentile", top, ticks, bars)


def _calls(title: str, calls_ms: npt.NDArray[np.float64]) -> str:
    """Every call, in order: drift, throttling and the hiccups of other programs show here."""
    top = float(calls_ms.max()) * 1.05
    dots = [
        f'<circle class="call" cx="{_x(i / max(1, len(calls_ms) - 1)):.1f}" cy="{_y(value, top):.1f}" r="1.6"/>'
        for i, value in enumerate(calls_ms.tolist())
    ]
    return _svg(f"{title}: each call", top, [(0.0, "start"), (1.0, "end")], dots)


def _percentiles(title: str, calls_ms: npt.NDArray[np.float64]) -> str:
    """The time that a share of the calls stays under; the axis stretches towards the slowest."""
    ordered, n = np.sort(calls_ms), len(calls_ms)
    nines = math.log10(2 * n)

    def place(share: float) -> float:
        return -math.log10(max(1 - share, 0.5 / n)) / nines

    top = float(ordered[-1]) * 1.05
    line = " ".join(f"{_x(place(i / n)):.1f},{_y(value, top):.1f}" for i, value in enumerate(ordered.tolist()))
    ticks = [(place(p / 100), f"{p:g}%") for p in _PERCENTILES if (1 - p / 100) * n >= 1]
    return _svg(f"{title}: percentiles", top, ticks, [f'<polyline class="curve" points="{line}"/>'])


def _x(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _svg(title: str, top: float, ticks: list[tuple[float, str]], parts: list[str]) -> str:
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    levels = [k * step for k in range(int(top / step) + 1)]
    grid = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(level, top):.1f}" y2="{_y(level, top):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{_y(level, top) + 4:.1f}" text-anchor="end">{level:g}</text>'
        for level in levels
    ]
    grid += [
        f'<line class="grid" x1="{_x(at):.1f}" x2="{_x(at):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{_x(at):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{text}</text>'
        for at, text in ticks
    ]
    body = "\n".join([*grid, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">\n'
        f'<title>{escape(title)}</title><style>{_STYLE}</style><rect class="paper" width="100%" height="100%"/>\n'
        f'<text x="{_LEFT}" y="20">{escape(title)}, ms</text>\n{body}\n</svg>\n'
    )
