"""Models as points, time against AUROC, as one SVG picture that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["pareto_svg"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 36, 44  # margins around the plot, in units of the drawing
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}.limit{stroke:#c43b0b;stroke-dasharray:5 4}"
    ".model{fill:#0b62c4;fill-opacity:.45}.chosen{fill:#c43b0b}.front{fill:none;stroke:#0b62c4}.paper{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.model{fill:#6fb1ff}.front{stroke:#6fb1ff}"
    ".paper{fill:#161616}}"
)


def pareto_svg(points: Sequence[tuple[float, float, str]], chosen: int, limit_ms: float) -> str:
    """Models as (milliseconds, AUROC, name), at least one; `chosen` is marked, `limit_ms` drawn, and the line joins
    those that no other one beats in both.
    """
    times = [ms for ms, _, _ in points] + [limit_ms]
    low, high = math.log10(min(times) / 1.2), math.log10(max(times) * 1.2)
    values = [auroc for _, auroc, _ in points]
    bottom, top = min(values) - 0.02, max(values) + 0.02

    def x(ms: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(ms) - low) / (high - low)

    def y(auroc: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (top - auroc) / (top - bottom)

    parts = []
    for step in range(math.ceil(bottom * 20), math.floor(top * 20) + 1):
        at = y(step / 20)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{step / 20:.2f}</text>')
    parts += [
        f'<text x="{x(ms):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{ms:g}</text>'
        for ms in (factor * 10.0**power for power in range(-1, 5) for factor in (1, 2, 5))
        if low <= math.log10(ms) <= high
    ]
    front, best = [], -math.inf
    for ms, auroc, _ in sorted(points, key=lambda point: (point[0], -point[1])):
        if auroc > best:
            front.append(f"{x(ms):.1f},{y(auroc):.1f}")
            best = auroc
    parts.append(f'<polyline class="front" points="{" ".join(front)}"/>')
    at = x(limit_ms)
    parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    for i, (ms, auroc, name) in enumerate(points):
        kind, radius = ("chosen", 6) if i == chosen else ("model", 4)
        parts.append(
            f'<circle class="{kind}" cx="{x(ms):.1f}" cy="{y(auroc):.1f}" r="{radius}"><title>{escape(name)}: '
            f"{ms:.1f} ms, {auroc:.3f}</title></circle>"
        )
    title = f"AUROC on drawn defects by milliseconds per frame; chosen: {escape(points[chosen][2])}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}"><style>{_STYLE}</style><rect class="paper" width="100%" height="100%"/>'
        f'<text x="{_LEFT}" y="20">{title}</text>{"".join(parts)}'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">ms per frame</text></svg>\n'
    )
