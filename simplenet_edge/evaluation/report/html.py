"""One HTML file that shows what an evaluation found: figures, curves and the images that matter.

Self-contained: charts are inline SVG, images are data URIs, nothing is fetched, so it opens offline and can be mailed.
Every figure comes from the `Evaluation`; the predictor is asked again only for the maps of the images that are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np
from sklearn.metrics import roc_curve

from simplenet_edge.data.findings import counted
from simplenet_edge.evaluation.metrics import AUPRO_LIMIT
from simplenet_edge.evaluation.report.charts import roc_svg, score_histogram_svg, trade_off_svg
from simplenet_edge.evaluation.report.gallery import galleries
from simplenet_edge.evaluation.report.page import html_page, html_text
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.files import write_text
from simplenet_edge.spec import Predictor, ScoreStatistics
from simplenet_edge.threshold import guarantee_text

__all__ = ["write_report"]

_FILES = Path(__file__).parent


def write_report(
    path: Path,
    evaluation: Evaluation,
    predictor: Predictor,
    normal: ScoreStatistics,
    title: str,
    about: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write the report of `evaluation` to `path`, one `.html` file; atomic.

    `predictor` is the one that was evaluated; it makes the maps of up to 24 images again. `normal` holds the scores of
    the calibration images: heat starts at their median. `about` is what is known of the model, by its name; `warnings`
    come before all figures. Raises DataError where an image is gone or the disk refuses.
    """
    sections = [
        _header(evaluation, title),
        *(f'<p class="warning">{html_text(warning)}</p>' for warning in warnings),
        _headline(evaluation),
        _operating_point(evaluation),
        _charts(evaluation),
        _class_table(evaluation),
        galleries(evaluation, predictor, normal),
        _corrupt_files(evaluation),
        _about(about or {}),
        Template((_FILES / "footer.html").read_text(encoding="utf-8")).substitute(aupro_limit=f"{AUPRO_LIMIT:.0%}"),
    ]
    write_text(path, html_page(title, sections))


def _header(evaluation: Evaluation, title: str) -> str:
    verdicts = evaluation.verdicts
    n_masks = sum(defect.n_masks for defect in evaluation.classes)
    height, width = evaluation.spec.size_hw
    return (
        f"<header><h1>{html_text(title)}</h1>\n"
        f'<p class="soft">{counted(len(evaluation.images), "test image")}: {verdicts.n_good} good, '
        f"{verdicts.n_defective} defective, {n_masks} of these with ground truth. "
        f"Model frame {width} &times; {height} pixels.</p></header>"
    )


def _headline(evaluation: Evaluation) -> str:
    metrics, verdicts = evaluation.metrics, evaluation.verdicts
    cards = [
        (
            "Defective parts found",
            _percent(verdicts.recall),
            f"{verdicts.defective_rejected} of {verdicts.n_defective} rejected at the threshold",
        ),
        (
            "Good parts rejected",
            _percent(verdicts.false_reject_rate),
            f"{verdicts.good_rejected} of {verdicts.n_good} at the threshold",
        ),
        ("Image AUROC", _figure(metrics.image_auroc), "good from defective, any threshold"),
        ("Average precision", _figure(metrics.average_precision), "any threshold"),
        ("Pixel AUROC", _figure(metrics.pixel_auroc), "where the defect is"),
        ("AUPRO", _figure(metrics.aupro), f"overlap with defects, up to {AUPRO_LIMIT:.0%} false pixels"),
    ]
    body = "\n".join(
        f'<div class="card"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>'
        for name, value, note in cards
    )
    return f'<section class="cards">\n{body}\n</section>'


def _operating_point(evaluation: Evaluation) -> str:
    point, verdicts, metrics = evaluation.operating_point, evaluation.verdicts, evaluation.metrics
    guarantee = "<p>" if point.guaranteed else '<p class="warning">'
    best = ""
    if metrics.best_f1 is not None:
        best = (
            f'<p class="soft">For comparison: the best F1 that any threshold reaches on these images is '
            f"{metrics.best_f1:.3f}, at {metrics.best_f1_threshold:.4g}. That threshold is chosen on the test images "
            "themselves: it says what the scores could do, not what a line would see.</p>"
        )
    rows = "\n".join(
        f"<tr><td>{name}</td><td{_wrong(accepted, is_wrong_ok)}>{accepted}</td>"
        f"<td{_wrong(rejected, not is_wrong_ok)}>{rejected}</td></tr>"
        for name, accepted, rejected, is_wrong_ok in (
            ("Good", verdicts.good_accepted, verdicts.good_rejected, False),
            ("Defective", verdicts.defective_accepted, verdicts.defective_rejected, True),
        )
    )
    return (
        "<section><h2>Operating point</h2>\n"
        f"<p>A part is rejected (NG) when its score is above <b>{point.threshold:.6g}</b>.</p>\n"
        f"{guarantee}{html_text(guarantee_text(point))}</p>\n{_marked_pixels(evaluation)}{best}\n"
        f'<div class="columns"><div class="panel"><table><tr><th>On these images</th><th>Accepted</th>'
        f"<th>Rejected</th></tr>\n{rows}</table></div>\n"
        f'<div class="panel"><table><tr><th>At the threshold</th><th></th></tr>'
        f"<tr><td>Precision of a rejection</td><td>{_percent(verdicts.precision)}</td></tr>"
        f"<tr><td>Right verdicts</td><td>{_percent(verdicts.accuracy)}</td></tr></table></div></div></section>"
    )


def _marked_pixels(evaluation: Evaluation) -> str:
    threshold, verdicts = evaluation.operating_point.pixel_threshold, evaluation.verdicts
    if threshold is None:
        return ""
    marked = [image.sample.defect is None for image in evaluation.images if image.marked_share]
    return (
        f"<p>A pixel is marked as defective when its map value is above <b>{threshold:.6g}</b>. The guarantee for that "
        f"is the same: as few good parts have any such pixel. On these images {marked.count(True)} of "
        f"{verdicts.n_good} good parts have one, and {marked.count(False)} of {verdicts.n_defective} defective "
        "ones.</p>\n"
    )


def _charts(evaluation: Evaluation) -> str:
    good = [image.score for image in evaluation.images if image.sample.defect is None]
    defective = [image.score for image in evaluation.images if image.sample.defect is not None]
    histogram = score_histogram_svg(good, defective, evaluation.operating_point.threshold)
    roc = trade_off = '<p class="soft">This curve needs good and defective images.</p>'
    if evaluation.verdicts.recall is not None and evaluation.verdicts.false_reject_rate is not None:
        labels = np.repeat([False, True], [len(good), len(defective)])
        scores = np.array([*good, *defective])
        at = (evaluation.verdicts.false_reject_rate, evaluation.verdicts.recall)
        false_rejects, hits, _ = roc_curve(labels, scores)
        roc = roc_svg(false_rejects, hits, at)
        false_rejects, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
        trade_off = trade_off_svg(false_rejects, hits, at, evaluation.operating_point.alpha, len(good))
    return (
        '<section><h2>Scores</h2>\n<div class="columns three"><div class="panel"><h3>Distribution</h3>'
        '<p class="key"><i class="good"></i>good, upwards<i class="defective"></i>defective, downwards</p>'
        f"{histogram}</div>\n"
        '<div class="panel"><h3>False rejects against recall</h3><p class="key">What another threshold would cost, '
        f"few false rejects drawn wide</p>{trade_off}</div>\n"
        f'<div class="panel"><h3>ROC curve</h3><p class="key">Image AUROC {_figure(evaluation.metrics.image_auroc)}</p>'
        f"{roc}</div></div></section>"
    )


def _class_table(evaluation: Evaluation) -> str:
    if not evaluation.classes:
        return ""
    rows = "\n".join(
        f"<tr><td>{html_text(defect.defect)}</td><td>{defect.n}</td><td>{_percent(defect.recall)}</td>"
        f"<td>{_figure(defect.image_auroc)}</td><td>{_figure(defect.pixel_auroc)}</td>"
        f"<td>{_figure(defect.aupro)}</td></tr>"
        for defect in evaluation.classes
    )
    return (
        '<section><h2>Defect classes</h2>\n<p class="soft">Each class against all good images.</p>\n'
        '<div class="panel"><table><tr><th>Class</th><th>Images</th><th>Found</th><th>Image AUROC</th>'
        f"<th>Pixel AUROC</th><th>AUPRO</th></tr>\n{rows}</table></div></section>"
    )


def _corrupt_files(evaluation: Evaluation) -> str:
    if not evaluation.corrupt:
        return ""
    rows = "\n".join(
        f'<tr><td class="path">{html_text(name)}</td><td class="path">{html_text(reason)}</td></tr>'
        for name, reason in evaluation.corrupt
    )
    return (
        f"<section><h2>Files that can't be used</h2>\n<p>{counted(len(evaluation.corrupt), 'file')} left out.</p>\n"
        f'<div class="panel"><table>{rows}</table></div></section>'
    )


def _about(about: Mapping[str, str]) -> str:
    if not about:
        return ""
    rows = "\n".join(
        f'<tr><td>{html_text(name)}</td><td class="path">{html_text(value)}</td></tr>' for name, value in about.items()
    )
    return f'<section><h2>What was evaluated</h2>\n<div class="panel"><table>{rows}</table></div></section>'


def _percent(share: float | None) -> str:
    return "&ndash;" if share is None else f"{100 * share:.1f}%"


def _figure(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.3f}"


def _wrong(images: int, wrong: bool) -> str:
    return ' class="wrong"' if wrong and images else ""
