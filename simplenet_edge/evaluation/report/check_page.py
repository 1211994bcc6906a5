"""One HTML file with what `check` found in a dataset, and the images that it should be believed by.

Self-contained as the evaluation's report is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from simplenet_edge.data.check import CheckReport, Group
from simplenet_edge.data.facts import ImageFacts
from simplenet_edge.data.reading import read_whole_mask
from simplenet_edge.errors import DataError
from simplenet_edge.evaluation.report.page import data_uri, html_page, html_text
from simplenet_edge.files import write_text
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.overlay import outline
from simplenet_edge.spec import Frames

__all__ = ["write_check_page"]

_SHOWN = 6  # images of a finding
_UNUSUAL = 12  # images that look least like the others


def write_check_page(folder: Path, report: CheckReport) -> Path:
    """Write `check.html` into `folder`, atomic, and return its path. Raises DataError where the disk refuses."""
    path = folder / "check.html"
    refusal = report.refusal and f'<p class="warning">Training would refuse: {html_text(report.refusal)}</p>'
    title = f"{report.dataset.name}: {report.dataset.layout}"
    header = f"<header><h1>{html_text(title)}</h1></header>"
    sections = [header, refusal or "", _table(report.groups), *_findings(report), _unusual(report)]
    write_text(path, html_page(title, sections))
    return path


def _table(groups: Sequence[Group]) -> str:
    rows = "\n".join(
        f"<tr><td>{html_text(group.name)}</td><td>{group.n}</td><td>{group.n_damaged}</td>"
        f"<td>{', '.join(group.sizes[:3])}</td><td>{', '.join(group.kinds)}</td>"
        + (
            f"<td>{group.mean:.0f}</td><td>{group.contrast:.0f}</td></tr>"
            if group.mean is not None
            else "<td></td><td></td></tr>"
        )
        for group in groups
    )
    return (
        '<section class="panel"><table><tr><th>Images</th><th>Count</th><th>Damaged</th><th>Size</th><th>Format</th>'
        f"<th>Grey level</th><th>Contrast</th></tr>\n{rows}</table></section>"
    )


def _findings(report: CheckReport) -> Iterator[str]:
    facts = {one.sample.name: one for one in report.facts}
    for finding in report.findings:
        shown = [facts[name] for name in finding.files if name in facts][:_SHOWN]
        text = f"<h2>{html_text(finding.kind)}</h2>\n<p>{html_text(finding.text)}</p>"
        yield f"<section>{text}{_gallery(shown)}</section>"


def _unusual(report: CheckReport) -> str:
    """The images whose thumbnail is farthest from the median one of the good parts trained on."""
    usable = [one for one in report.facts if one.error is None]
    trained = [one.thumbnail for one in report.facts[: len(report.dataset.train)] if one.error is None]
    if not trained:
        return ""
    usual = np.median(np.stack(trained), axis=0)
    farthest = sorted(usable, key=lambda one: -float(np.abs(one.thumbnail - usual).mean()))[:_UNUSUAL]
    return (
        "<section><h2>Least like the others</h2>\n<p>Farthest from the median picture of the good parts; defective "
        f"parts may well be, good ones should have a reason.</p>{_gallery(farthest)}</section>"
    )


def _gallery(facts: Sequence[ImageFacts]) -> str:
    figures = [_figure(one) for one in facts if one.error is None]
    return '\n<div class="gallery">\n' + "\n".join(figures) + "\n</div>" if figures else ""


def _figure(one: ImageFacts) -> str:
    name = html_text(one.sample.name)
    try:
        image = read_image(one.sample.path)
    except DataError:
        return f'<figure><figcaption><span class="name">{name} is gone</span></figcaption></figure>'
    views = "".join(f'<div><img src="{data_uri(view)}" alt="{name}"></div>' for view in _views(one, image))
    label = html_text(one.sample.defect or "good")
    return (
        f"<figure><figcaption><b>{label}</b><span>grey level {one.mean:.0f}, contrast {one.contrast:.0f}</span>"
        f'<span class="name">{name}</span></figcaption>\n<div class="views">{views}</div></figure>'
    )


def _views(one: ImageFacts, image: Frames) -> Iterator[Frames]:
    yield image
    if one.sample.mask_paths:
        try:
            yield outline(image, read_whole_mask(one.sample, one.size_hw))
        except DataError:  # it is among the findings
            return
