"""The report as a file: self-contained, escaped, complete, and showing the images that matter first."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import DataError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.report.html import write_report
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, Prediction, ScoreStatistics
from tests.pages import Page, require_alone

SPEC = InputSpec(32, 40)
POINT = OperatingPoint(threshold=100.0, alpha=0.05, n_calibration=40, guaranteed=True)
NORMAL = ScoreStatistics(n=40, mean=41.0, std=5.0, min=30.0, median=40.0, max=100.0)


class Brightness:
    """The map is the blue channel, the score its maximum."""

    def predict(self, frames: Frames) -> Prediction:
        maps = frames[..., 0].astype(np.float32)
        return Prediction(maps.max(axis=(1, 2)), maps)


def make(folder: Path, name: str, brightest: int, defect: str | None, hw: tuple[int, int] = SPEC.size_hw) -> Sample:
    image = np.full((*hw, 3), 20, np.uint8)
    image[hw[0] // 4 : hw[0] // 2, hw[1] // 4 : hw[1] // 2] = brightest
    number = len(list(folder.iterdir()))
    path, mask = folder / f"{number}.png", folder / f"{number}_mask.png"
    assert cv2.imwrite(str(path), image)
    assert cv2.imwrite(str(mask), (image[..., 0] == brightest).astype(np.uint8))
    return Sample(path, defect, mask if defect == "hole" else None, name)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    good = [make(tmp_path, f"good/{score}", score, None) for score in (120, 35, 99, *range(41, 60))]
    holes = [make(tmp_path, f"hole/{score}", score, "hole") for score in (210, 90, 150, 190)]
    return [*good, *holes, *(make(tmp_path, f"scratch/{score}", score, "scratch") for score in (110, 60))]


def evaluation_of(samples: list[Sample], point: OperatingPoint = POINT) -> Evaluation:
    return evaluate(Brightness(), samples, SPEC, point)


def report(path: Path, evaluation: Evaluation, title: str = "Tiles") -> str:
    write_report(path, evaluation, Brightness(), NORMAL, title)
    return path.read_text(encoding="utf-8")


def gallery(html: str, heading: str) -> list[str]:
    """The names of the images under a heading, in order."""
    section = re.search(rf"<section><h2>{heading}</h2>(.*?)</section>", html, re.DOTALL)
    return re.findall(r'class="name">([^<]*)<', section[1]) if section else []


def images(html: str) -> list[np.ndarray]:
    found = [base64.b64decode(data) for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)]
    return [decode_image(data) for data in found]


def test_the_page_is_well_formed_and_fetches_nothing(samples: list[Sample], tmp_path: Path) -> None:
    html = report(tmp_path / "report.html", evaluation_of(samples))
    require_alone(html)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_the_figures_are_those_of_the_evaluation(samples: list[Sample], tmp_path: Path) -> None:
    evaluation = evaluation_of(samples)
    text = Page(report(tmp_path / "report.html", evaluation)).text
    metrics = evaluation.metrics
    for value in (metrics.image_auroc, metrics.average_precision, metrics.pixel_auroc, metrics.aupro, metrics.best_f1):
        assert f"{value:.3f}" in text
    assert "66.7%" in text  # 4 of 6 found
    assert "4 of 6 rejected at the threshold" in text
    assert "1 of 22 at the threshold" in text
    assert "above 100." in text
    assert "At most 5% of good parts are rejected" in text
    assert "28 test images: 22 good, 6 defective, 4 of these with ground truth" in text
    for row in evaluation.classes:
        assert row.defect in text
        assert f"{row.image_auroc:.3f}" in text


def test_the_images_that_matter_come_first(samples: list[Sample], tmp_path: Path) -> None:
    html = report(tmp_path / "report.html", evaluation_of(samples))
    good = gallery(html, "Good parts with the highest scores")
    assert good[:3] == ["good/120", "good/99", "good/59"]  # the false reject, then the closest calls
    assert len(good) == 8
    assert gallery(html, "Defective parts with the lowest scores")[:3] == ["scratch/60", "hole/90", "scratch/110"]
    assert gallery(html, "Typical hits") == ["hole/190", "scratch/110"]  # the middle one of each class


def test_each_image_is_shown_with_heat_and_with_its_mask_where_there_is_one(
    samples: list[Sample], tmp_path: Path
) -> None:
    html = report(tmp_path / "report.html", evaluation_of(samples))
    figures = {
        re.search(r'class="name">([^<]*)<', figure)[1]: (figure, images(figure))  # type: ignore[index]
        for figure in re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
    }
    figure, views = figures["hole/90"]
    assert 'verdict ok">OK' in figure
    assert "<b>90</b>" in figure
    assert [view.shape for view in views] == [(32, 40, 3)] * 3
    assert 'verdict ng">NG' in figures["hole/190"][0]
    assert len(figures["scratch/60"][1]) == 2  # no mask
    frame, heat = figures["good/120"][1]
    reddened = heat.astype(int)[..., 2] - heat.astype(int)[..., 0] > 60
    assert np.abs(frame.astype(int)[..., 2] - frame.astype(int)[..., 0]).max() < 20
    assert reddened[10:14, 12:18].all()  # the block
    assert not reddened[20:, 24:].any()  # a normal part of the frame stays as it was


def test_large_frames_are_shown_smaller(tmp_path: Path) -> None:
    spec = InputSpec(400, 800)
    samples = [make(tmp_path, "a", 200, "hole", spec.size_hw), make(tmp_path, "b", 50, None, spec.size_hw)]
    html = report(tmp_path / "report.html", evaluate(Brightness(), samples, spec, POINT))
    assert {view.shape for view in images(html)} == {(160, 320, 3)}


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>&\'.png'
    samples = [make(tmp_path, nasty, 200, "<u>bold</u>"), make(tmp_path, "good/\udcff.png", 50, None)]
    html = report(tmp_path / "report.html", evaluation_of(samples), title="<em>Title</em>")
    page = Page(html)
    assert not page.tags & {"script", "em", "u"}
    assert nasty in page.text
    assert "<u>bold</u>" in page.text
    assert page.text.count("<em>Title</em>") == 2  # in the tab and at the top
    assert "good/?.png" in page.text


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (slice(0, 22), "This curve needs good and defective images"),  # good ones only
        (slice(22, None), "This curve needs good and defective images"),  # defective ones only
        (slice(0, 1), "1 test image: 1 good"),  # a single image, rejected
    ],
)
def test_figures_that_are_not_defined_are_dashes(
    samples: list[Sample], tmp_path: Path, kept: slice, words: str
) -> None:
    page = Page(report(tmp_path / "report.html", evaluation_of(samples[kept])))
    assert words in page.text
    assert "\N{EN DASH}" in page.text
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


def test_a_missing_guarantee_is_a_warning(samples: list[Sample], tmp_path: Path) -> None:
    html = report(tmp_path / "a.html", evaluation_of(samples, OperatingPoint(100.0, 0.01, 40, guaranteed=False)))
    assert '<p class="warning">No guarantee: at most 1% false rejects takes 99 good' in html
    assert 'class="warning"' not in report(tmp_path / "b.html", evaluation_of(samples))


def test_marked_pixels_are_outlined_and_counted(samples: list[Sample], tmp_path: Path) -> None:
    point = OperatingPoint(100.0, 0.05, 40, guaranteed=True, pixel_threshold=100.0)
    evaluation = evaluation_of(samples, point)
    n_good = sum(bool(image.marked_share) for image in evaluation.images if image.sample.defect is None)
    n_defective = sum(bool(image.marked_share) for image in evaluation.images if image.sample.defect is not None)
    assert (n_good, n_defective) == (evaluation.verdicts.good_rejected, evaluation.verdicts.defective_rejected)
    with_marks, without = report(tmp_path / "a.html", evaluation), report(tmp_path / "b.html", evaluation_of(samples))
    text = Page(with_marks).text
    assert f"{n_good} of {evaluation.verdicts.n_good} good parts have one" in text
    assert "the pixels above 100, the pixel threshold" in text
    areas = {image.marked_share for image in evaluation.images if image.rejected}
    assert areas
    assert all(f"marked {100 * area:.2g}%" in text for area in areas if area)
    assert "marked" not in Page(without).text
    assert Page(with_marks).sources != Page(without).sources  # the line is drawn


def test_corrupt_files_are_listed(samples: list[Sample], tmp_path: Path) -> None:
    samples[5].path.write_bytes(b"not an image")
    text = Page(report(tmp_path / "report.html", evaluation_of(samples))).text
    assert "1 file left out" in text
    assert samples[5].name in text
    assert "is no image" in text


def test_a_report_that_fails_leaves_the_old_one(samples: list[Sample], tmp_path: Path) -> None:
    evaluation = evaluation_of(samples)
    path = tmp_path / "out" / "report.html"
    before = report(path, evaluation)
    samples[0].path.unlink()  # the false reject, which is always shown
    with pytest.raises(DataError, match=samples[0].path.name):
        write_report(path, evaluation, Brightness(), NORMAL, "Tiles")
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_is_an_error(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be written"):
        write_report(samples[0].path / "report.html", evaluation_of(samples), Brightness(), NORMAL, "Tiles")


def test_says_what_was_evaluated_and_warns_before_all_figures(samples: list[Sample], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    about = {"Bundle": "0123456789ab", "Backbone": "resnet18 <b>"}
    write_report(path, evaluation_of(samples), Brightness(), NORMAL, "Tiles", about, ["The weights are random & few."])
    text = Page(path.read_text(encoding="utf-8")).text
    assert "0123456789ab" in text
    assert "resnet18 <b>" in text
    assert text.index("The weights are random & few.") < text.index("Image AUROC")
    assert text.index("Defective parts with the lowest scores") < text.index("Good parts with the highest scores")
