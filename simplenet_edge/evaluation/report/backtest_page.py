"""One HTML file that shows what a new model would have changed in an archive: figures, charts and the worst flips.

Self-contained as the evaluation's report is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simplenet_edge.evaluation.backtest import Backtest, BacktestedModel
from simplenet_edge.evaluation.report.charts import agreement_svg, relative_histogram_svg
from simplenet_edge.evaluation.report.page import data_uri, html_page, html_text
from simplenet_edge.files import write_text
from simplenet_edge.spec import Frames
from simplenet_edge.threshold import CONFIDENCE

__all__ = ["Flip", "write_backtest_page"]


@dataclass(frozen=True, eq=False)
class Flip:
    """A picture whose verdict changes: its raw scores, and the views by their names; `problem` where it has none."""

    path: str
    old_score: float
    new_score: float
    views: tuple[tuple[str, Frames], ...] = ()
    problem: str = ""


def write_backtest_page(
    path: Path,
    found: Backtest,
    relative: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    flips: tuple[Sequence[Flip], Sequence[Flip]],
    names: tuple[str, str],
) -> None:
    """Write the page to `path`, atomic. `relative` are the relative scores of the old and the new model, `flips` those
    from OK to NG and from NG to OK, `names` what the bundles are called. Raises DataError where the disk refuses.
    """
    title = f"Back-test: {names[0]} against {names[1]}"
    header = (
        f'<header><h1>{html_text(title)}</h1>\n<p class="soft">{found.pictures} pictures scored by both, '
        f"{found.failed} that could not be.</p></header>"
    )
    charts = (
        '<section><h2>Scores</h2>\n<p class="soft">Relative scores: 0 is the median of a model\'s good calibration '
        'images, 1 its threshold.</p>\n<div class="columns"><div class="panel"><h3>New over old</h3>'
        '<p class="key"><i class="good"></i>same verdict<i class="defective"></i>another verdict</p>'
        f'{agreement_svg(*relative)}</div>\n<div class="panel"><h3>Distribution</h3>'
        '<p class="key"><i class="good"></i>old, upwards<i class="defective"></i>new, downwards</p>'
        f"{relative_histogram_svg(*relative)}</div></div></section>"
    )
    galleries = [
        _gallery("From OK to NG", "the new model rejects", found.ok_to_ng, flips[0], ("OK", "NG")),
        _gallery("From NG to OK", "the new model lets pass", found.ng_to_ok, flips[1], ("NG", "OK")),
    ]
    sections = [header, _headline(found), charts, _thresholds(found, names), *galleries]
    write_text(path, html_page(title, sections))


def _headline(found: Backtest) -> str:
    correlation = "&ndash;" if found.rank_correlation is None else f"{found.rank_correlation:.3f}"
    cards = [
        ("Same verdict", f"{100 * found.agreement:.2f}%", f"{found.both_ok} OK and {found.both_ng} NG by both"),
        ("From OK to NG", str(found.ok_to_ng), "more false rejects, or more defects found"),
        ("From NG to OK", str(found.ng_to_ok), "fewer false rejects, or defects missed"),
        ("Rank correlation", correlation, "Spearman's, of the scores"),
    ]
    body = "\n".join(
        f'<div class="card"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>'
        for name, value, note in cards
    )
    return f'<section class="cards">\n{body}\n</section>'


def _thresholds(found: Backtest, names: tuple[str, str]) -> str:
    rows = "\n".join(_row(model, name) for model, name in zip((found.old, found.new), names, strict=True))
    return (
        f"<section><h2>Thresholds</h2>\n<p>Suppose that the archive shows good parts only. Then what is above a "
        f"threshold is falsely rejected: that share is the alpha that the threshold had here, at most its bound with "
        f"{CONFIDENCE:.0%} confidence (Clopper&ndash;Pearson), and the last column is the threshold that would have "
        "kept the promised alpha on this archive. Where defective parts are in it, all of these are too high.</p>\n"
        '<div class="panel"><table><tr><th>Model</th><th>Threshold</th><th>Promised alpha</th><th>Above it</th>'
        f"<th>Share</th><th>Bound</th><th>Threshold for that alpha</th></tr>\n{rows}</table></div></section>"
    )


def _row(model: BacktestedModel, name: str) -> str:
    few = "" if model.archive_guaranteed else " (too few pictures)"
    return (
        f"<tr><td>{html_text(name)} ({html_text(model.bundle_id)})</td><td>{model.threshold:.6g}</td>"
        f"<td>{100 * model.alpha:.3g}%</td><td>{model.rejected}</td><td>{100 * model.rate:.3g}%</td>"
        f"<td>{100 * model.rate_bound:.3g}%</td><td>{model.archive_threshold:.6g}{few}</td></tr>"
    )


def _gallery(title: str, what: str, count: int, flips: Sequence[Flip], verdicts: tuple[str, str]) -> str:
    if not count:
        return f'<section><h2>{title}</h2>\n<p class="soft">None.</p></section>'
    figures = "\n".join(_figure(flip, verdicts) for flip in flips)
    return (
        f'<section><h2>{title}</h2>\n<p class="soft">{count} that {what}; shown are {len(flips)}, those that change '
        f'most first.</p>\n<div class="gallery">\n{figures}\n</div></section>'
    )


def _figure(flip: Flip, verdicts: tuple[str, str]) -> str:
    name = html_text(flip.path)
    views = "".join(
        f'<div><img src="{data_uri(view)}" alt="{what}: {name}"><span>{what}</span></div>' for what, view in flip.views
    )
    body = f'<div class="views">{views}</div>' if views else f"<p>{html_text(flip.problem)}</p>"
    scores = "".join(
        f'<span class="verdict {verdict.lower()}">{verdict}</span><b>{score:.4g}</b>'
        for verdict, score in zip(verdicts, (flip.old_score, flip.new_score), strict=True)
    )
    return f'<figure><figcaption>{scores}<span class="name">{name}</span></figcaption>\n{body}</figure>'
