"""The report's images, as HTML: each as the model saw it, with its heat, with its ground truth.

Images are embedded as `data_uri` makes them; all text from file names is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from simplenet_edge.data.findings import counted
from simplenet_edge.data.reading import read_sample_mask
from simplenet_edge.errors import DataError
from simplenet_edge.evaluation.report.page import data_uri, html_text
from simplenet_edge.evaluation.results import Evaluation, ImageResult
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.overlay import HEAT_BGR, outline, overlay
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.spec import OperatingPoint, Predictor, ScoreStatistics

__all__ = ["galleries"]

_SHOWN = 8  # images in a gallery


def galleries(evaluation: Evaluation, predictor: Predictor, normal: ScoreStatistics) -> str:
    """The images that matter: defective ones that score low, good ones that score high, typical hits."""
    good = [image for image in evaluation.images if image.sample.defect is None]
    defective = [image for image in evaluation.images if image.sample.defect is not None]
    highest_good = sorted(good, key=lambda image: -image.score)
    lowest_defective = sorted(defective, key=lambda image: image.score)
    verdicts, shown = evaluation.verdicts, _SHOWN
    galleries = [
        (
            "Defective parts with the lowest scores",
            f"{counted(verdicts.defective_accepted, 'missed part')} among {verdicts.n_defective} defective ones.",
            lowest_defective[:shown],
        ),
        (
            "Good parts with the highest scores",
            f"{counted(verdicts.good_rejected, 'false reject')} among {verdicts.n_good} good parts.",
            highest_good[:shown],
        ),
        (
            "Typical hits",
            "The rejected part with the median score of each defect class.",
            _typical_hits(lowest_defective)[:shown],
        ),
    ]
    parts = [_heat_scale(evaluation.operating_point, normal.median)]
    for name, note, images in galleries:
        if images:
            figures = "\n".join(_views(image, evaluation, predictor, normal) for image in images)
            parts.append(
                f'<section><h2>{name}</h2>\n<p class="soft">{note}</p>\n<div class="gallery">\n{figures}\n</div>'
                "</section>"
            )
    return "\n".join(parts)


def _typical_hits(ordered: Sequence[ImageResult]) -> list[ImageResult]:
    """One rejected image of each class, the one in the middle; `ordered` by score."""
    hits: dict[str, list[ImageResult]] = {}
    for image in ordered:
        if image.rejected and image.sample.defect is not None:
            hits.setdefault(image.sample.defect, []).append(image)
    return [images[len(images) // 2] for _, images in sorted(hits.items())]


def _views(image: ImageResult, evaluation: Evaluation, predictor: Predictor, normal: ScoreStatistics) -> str:
    """One image as a figure: the model frame, the heat over it, and the ground truth where there is one."""
    shown = read_image(image.sample.path, evaluation.spec.bit_depth)
    frame = preprocess(shown, evaluation.spec)
    anomaly_map = predictor.predict(frame[None]).map[0]
    point = evaluation.operating_point
    heat = overlay(frame, anomaly_map, point.threshold, normal.median)
    if point.pixel_threshold is not None:
        heat = outline(heat, anomaly_map > point.pixel_threshold)
    views = [("image", frame), ("heat", heat)]
    try:
        size_hw = (shown.shape[0], shown.shape[1])
        mask = read_sample_mask(image.sample, evaluation.spec, size_hw) if image.sample.defect is not None else None
    except DataError:
        mask = None  # it is listed with the corrupt files
    if mask is not None and mask.any():
        views.append(("ground truth", outline(frame, mask)))
    name, defect = html_text(image.sample.name), html_text(image.sample.defect or "good")
    body = "\n".join(
        f'<div><img src="{data_uri(view)}" alt="{what}: {name}"><span>{what}</span></div>' for what, view in views
    )
    verdict = '<span class="verdict ng">NG</span>' if image.rejected else '<span class="verdict ok">OK</span>'
    area = "" if image.marked_share is None else f"<span>marked {100 * image.marked_share:.2g}%</span>"
    return (
        f"<figure><figcaption>{verdict}<b>{image.score:.4g}</b><span>{defect}</span>{area}"
        f'<span class="name">{name}</span></figcaption>\n<div class="views">{body}</div></figure>'
    )


def _heat_scale(point: OperatingPoint, normal_level: float) -> str:
    threshold = point.threshold
    marks = ""
    if point.pixel_threshold is not None:
        marks = (
            f" A line goes around the pixels above {point.pixel_threshold:.4g}, the pixel threshold; their share of "
            "the frame stands beside the score."
        )
    colours = [f"{red} {green} {blue}" for blue, green, red in HEAT_BGR]
    stops = ", ".join([f"rgb({colours[0]} / 0)", *(f"rgb({colour})" for colour in colours[1:])])
    return (
        '<section><h2>Images</h2>\n<p class="soft">All heat maps share one scale, fixed by the threshold: nothing is '
        "drawn up to the median score of good calibration images, dark red is as far above the threshold as that "
        f"median is below it. Maps are smoothed, so their peak is lower than the image's score.{marks}</p>\n"
        f'<p class="scale">{normal_level:.4g} <i style="background: linear-gradient(90deg, {stops})"></i> '
        f"{2 * threshold - normal_level:.4g} (threshold {threshold:.4g} in the middle)</p></section>"
    )
