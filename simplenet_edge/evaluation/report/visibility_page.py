"""One HTML file that shows how small a defect a model sees: tables, curves, and a map over a good image.

Self-contained as the evaluation's report is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from simplenet_edge.evaluation.drawn_trials import GRID
from simplenet_edge.evaluation.report.charts import pod_svg
from simplenet_edge.evaluation.report.page import data_uri, html_page, html_text
from simplenet_edge.evaluation.visibility import Visibility, VisibleSize
from simplenet_edge.files import write_text
from simplenet_edge.imaging.overlay import HEAT_BGR
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS, draw_sized

__all__ = ["size_text", "write_visibility_page"]

_ABOUT = {
    "scratch": "a straight line, its width a fifteenth of its length",
    "spot": "a round spot, lighter or darker",
    "dent": "a disc that is light on one side and dark on the other",
    "missing": "missing material: a ragged flat hole, darker",
    "added": "added material: a ragged piece with the texture of another place, lighter",
}
_TINT = 0.45  # of the map's colours
_SEED = 0


def write_visibility_page(path: Path, found: Visibility, image: Frames, title: str, warnings: Sequence[str]) -> None:
    """Write the page to `path`, atomic; the maps are drawn over `image` uint8 `(H, W, 3)`. Raises DataError."""
    height, width = found.image_hw
    header = (
        f"<header><h1>{html_text(title)}: the smallest visible defect</h1>\n"
        f'<p class="soft">{found.n_drawn} defects drawn on {found.n_images} good images, of {width} &times; {height} '
        f"pixels in the middle; found is a defect whose image is NG, above {found.threshold:.6g}. Good images that are "
        f"NG without one are left out: {found.n_rejected}.</p></header>"
    )
    sections = [header, *(f'<p class="warning">{html_text(warning)}</p>' for warning in warnings), _table(found)]
    sections += [_kind(found, kind, image) for kind in SIZED_KINDS]
    write_text(path, html_page(f"{title}: visibility", [*sections, _NOTES]))


def size_text(size: VisibleSize) -> str:
    """a90 / a90/95 in pixels, or that one of them is beyond the largest size that was drawn."""
    if size.a90_px is None:
        return "not reached"
    return f"{size.a90_px:.3g} / " + ("no bound" if size.a90_95_px is None else f"{size.a90_95_px:.3g} px")


def _table(found: Visibility) -> str:
    heads = "".join(f"<th>contrast {contrast:.0%}</th>" for contrast in found.config.contrasts)
    rows = []
    for kind in SIZED_KINDS:
        cells = ""
        for contrast in found.config.contrasts:
            size = found.size(kind, contrast)
            cells += f"<td>{size_text(size)}"
            if size.a90_95_px is not None:
                cells += f"<br>{size.a90_95_px / found.image_hw[1]:.1%} of the width"
            cells += "</td>"
        rows.append(f"<tr><td>{kind}</td>{cells}</tr>")
    return (
        '<section><h2>a90 / a90/95</h2>\n<p class="soft">The size found with a probability of 90 %, and its upper 95 % '
        "confidence bound: a length for scratches, a diameter for all others. Contrast is a share of the full scale: "
        f'10 % are 25 of 255 grey levels.</p>\n<div class="panel"><table><tr><th></th>{heads}</tr>\n'
        + "\n".join(rows)
        + "</table></div></section>"
    )


def _kind(found: Visibility, kind: str, image: Frames) -> str:
    contrast = found.region_contrast(kind)
    curves = [curve for curve in found.curves if curve.kind == kind]
    chart = pod_svg(curves, contrast)
    views = "".join(
        f'<div><img src="{data_uri(view)}" alt="{text}"><span>{text}</span></div>'
        for view, text in (
            (_map(found, kind, image), f"a90/95 by region, contrast {contrast:.0%}, in pixels"),
            (_examples(found, kind, image), "a defect of that size in each region"),
        )
    )
    rows = "\n".join(
        "<tr><td>" + ("top", "middle", "bottom")[row] + "</td>" + "".join(_cells(found, kind, row)) + "</tr>"
        for row in range(GRID)
    )
    return (
        f'<section><h2>{kind}</h2>\n<p class="soft">{_ABOUT[kind]}.</p>\n<div class="columns"><div class="panel">'
        f"<h3>Probability of detection</h3>{chart}</div>\n"
        f'<figure><div class="views two">{views}</div></figure></div>\n<div class="panel"><table><tr><th>a90 / a90/95, '
        f"contrast {contrast:.0%}</th><th>left</th><th>middle</th><th>right</th></tr>\n{rows}</table></div></section>"
    )


def _cells(found: Visibility, kind: str, row: int) -> list[str]:
    contrast = found.region_contrast(kind)
    return [f"<td>{size_text(found.size(kind, contrast, row * GRID + column))}</td>" for column in range(GRID)]


def _boxes(image: Frames) -> list[tuple[slice, slice]]:
    """The regions of an image, row by row."""
    (ys, xs) = (np.linspace(0, side, GRID + 1).round().astype(int).tolist() for side in image.shape[:2])
    return [(slice(ys[i], ys[i + 1]), slice(xs[j], xs[j + 1])) for i in range(GRID) for j in range(GRID)]


def _map(found: Visibility, kind: str, image: Frames) -> Frames:
    """The image with each region coloured by its a90/95, from yellow to dark red at a quarter of the width."""
    drawn, contrast = np.array(image), found.region_contrast(kind)
    scale = max(image.shape[:2]) / 320  # it is shown at most that large
    for region, box in enumerate(_boxes(image)):
        size = found.size(kind, contrast, region).a90_95_px
        share = 1.0 if size is None else min(1.0, 4 * size / found.image_hw[1])
        colour = np.array(HEAT_BGR[min(int(share * len(HEAT_BGR)), len(HEAT_BGR) - 1)])
        drawn[box] = np.rint(drawn[box] * (1 - _TINT) + colour * _TINT)
        text = "-" if size is None else f"{size:.0f}"
        at = (box[1].start + round(6 * scale), (box[0].start + box[0].stop) // 2)
        for ink, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            thickness = max(1, round(width * scale))
            cv2.putText(drawn, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * scale, ink, thickness, cv2.LINE_AA)
    return drawn


def _examples(found: Visibility, kind: str, image: Frames) -> Frames:
    """The image with a defect in the middle of each region, as large as it has to be there, where any is found."""
    rng, contrast = np.random.default_rng(_SEED), found.region_contrast(kind)
    for region, (rows, columns) in enumerate(_boxes(image)):
        size = found.size(kind, contrast, region).a90_95_px
        if size is not None:
            place = (columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2
            image = draw_sized(rng, image, kind, size, contrast, place)
    return image


_NOTES = """<section><h2>How to read this</h2>
<p>Logistic regression of hits and misses on the logarithms of size and contrast, as in MIL-HDBK-1823A, with Firth's
penalty; regions have a level of their own. The bound of a90 is that of the likelihood ratio, divided by how much more
alike the defects on one image are than chance. "Not reached": a90 is above the largest size that was drawn. "No bound":
so is a90/95, or the draws are too few to say. A size that equals the smallest drawn stands for "that or less".</p>
<p>It says how this model sees <em>these</em> drawn defects on images like these. Real defects look different: a gouge
may shine, a stain may have no edge. Compare it between models, lights and cameras, and with real defects of known size
where there are some.</p></section>"""
