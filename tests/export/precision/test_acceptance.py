from __future__ import annotations

import cv2
import numpy as np
import pytest

from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import DataError, ParityError
from simplenet_edge.export.precision.acceptance import BOUNDS, AcceptanceTest, require_passed
from simplenet_edge.export.precision.calibration import CalibrationImages, refuse_defects, too_few_warning
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, Prediction
from simplenet_edge.training.calibration import calibration_scores

SPEC = InputSpec(16, 24)
POINT = OperatingPoint(100.0, alpha=0.01, n_calibration=200, guaranteed=True)


class Brightness:
    """Scores a frame by its mean, plus what `shifts` says of that mean."""

    def __init__(self, shifts: dict[int, float] | None = None, offset: float = 0.0) -> None:
        self.shifts, self.offset = shifts or {}, offset

    def predict(self, frames: Frames) -> Prediction:
        means = frames.astype(np.float32).mean(axis=(1, 2, 3))
        score = np.array([m + self.offset + self.shifts.get(round(float(m)), 0) for m in means], np.float32)
        return Prediction(score, np.broadcast_to(score[:, None, None], frames.shape[:3]).copy())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    """Even images of brightness 50, 51 ... 149; defective from 120 on."""
    folder = tmp_path_factory.mktemp("even")
    found = []
    for value in range(50, 150):
        path = folder / f"{value}.png"
        assert cv2.imwrite(str(path), np.full((16, 24, 3), value, np.uint8))
        found.append(Sample(path, "bright" if value >= 120 else None))
    return tuple(found)


@pytest.fixture(scope="module")
def gate(samples: tuple[Sample, ...]) -> AcceptanceTest:
    return AcceptanceTest(Brightness(), POINT, samples, SPEC, labelled=True)


def point(threshold: float) -> OperatingPoint:
    return OperatingPoint(threshold, alpha=0.01, n_calibration=200, guaranteed=True)


def test_the_same_numbers_pass(gate: AcceptanceTest) -> None:
    result, figures = gate.judge("fp16", Brightness(), POINT)
    assert require_passed(result) is result
    assert (result.flips, result.borderline, result.n_images, result.images) == (0, 0, 100, "labelled")
    assert (result.auroc, result.auroc_fp32, result.rank_correlation) == (1, 1, pytest.approx(1))
    assert (result.score_max, result.map_max, result.map_mean) == (0, 0, 0)
    assert figures.verdicts.defective_rejected == 30


def test_an_offset_that_the_threshold_follows_flips_nothing(gate: AcceptanceTest) -> None:
    result, _ = gate.judge("int8", Brightness(offset=7), point(107))
    assert result.passed
    assert result.flips == 0
    assert result.map_mean == pytest.approx(7 / 99)


def test_a_verdict_that_changes_sides_is_a_flip(gate: AcceptanceTest) -> None:
    result, _ = gate.judge("fp16", Brightness({90: 30.0}), POINT)
    assert result.flips == 1
    assert result.score_max == pytest.approx(30 / 99)
    with pytest.raises(ParityError, match=r"1 of 100 verdicts flip, at most 0.5% may") as caught:
        require_passed(result)
    assert "rank correlation" in str(caught.value)  # the table


@pytest.mark.parametrize(("precision", "borderline"), [("fp16", 1), ("int8", 0)])
def test_a_flip_within_the_rounding_of_the_format_is_borderline(
    samples: tuple[Sample, ...], precision: str, borderline: int
) -> None:
    near = point(100 - 0.5 * BOUNDS["fp16"].rounding * 99)  # just below the image of 100
    gate = AcceptanceTest(Brightness(), near, samples, SPEC, labelled=True)
    result, _ = gate.judge(precision, Brightness({100: -0.06}), near)
    assert (result.borderline, result.flips) == (borderline, 1 - borderline)


def test_lost_auroc_and_order_fail(gate: AcceptanceTest) -> None:
    result, _ = gate.judge("int8", Brightness({60: 100.0, 140: -85.0}), POINT)
    assert any("points of AUROC are lost" in failure for failure in result.failures)
    disordered, _ = gate.judge("fp16", Brightness({value: (value * 37) % 50 for value in range(50, 100)}), point(150))
    assert any("rank correlation" in failure for failure in disordered.failures)


def images(samples: tuple[Sample, ...]) -> CalibrationImages:
    return CalibrationImages(samples, SPEC, "a test")


def test_ranges_come_from_all_images_or_some_evenly_spread(samples: tuple[Sample, ...]) -> None:
    found = images(samples)
    assert found.range_samples == samples
    assert images(samples * 10).range_samples == (samples * 10)[::4]
    assert too_few_warning(found) is None
    assert "99 calibration images are few" in str(too_few_warning(images(samples[1:])))


def test_thresholds_come_from_the_scores(samples: tuple[Sample, ...]) -> None:
    scores = calibration_scores(Brightness(), samples, SPEC)
    found = scores.operating_point(0.05)
    assert (found.threshold, found.pixel_threshold, found.n_calibration) == (145, 145, 100)
    assert scores.statistics().max == 149


@pytest.mark.parametrize(("rejected", "refused"), [(0, False), (3, False), (12, True), (40, True)])
def test_defects_among_the_calibration_images_are_named(rejected: int, refused: bool) -> None:
    scores = {f"{i}.png": (200.0 + i if i < rejected else 50.0) for i in range(100)}
    if not refused:
        refuse_defects(scores, POINT)
        return
    with pytest.raises(DataError, match=rf"{rejected} of 100 calibration images look defective") as caught:
        refuse_defects(scores, POINT)
    assert f"{rejected - 1}.png" in str(caught.value)  # the worst first
    assert "99.png" not in str(caught.value)


def test_thresholds_count_parts(samples: tuple[Sample, ...]) -> None:
    parts = {sample.name: sample.name[:-5] for sample in samples}  # ten images each, 50 to 59 and so on
    found = calibration_scores(Brightness(), samples, SPEC, parts=parts).operating_point(0.2)
    alone = calibration_scores(Brightness(), samples, SPEC).operating_point(0.2)
    assert (alone.threshold, alone.n_parts) == (130, None)
    assert (found.threshold, found.pixel_threshold) == (137, 137)  # 8.8 of the 10 parts
    assert (found.n_parts, found.n_calibration, found.guaranteed) == (10, 100, True)


def test_pictures_of_one_rejected_part_are_no_lot_of_defects() -> None:
    parts = {f"{i}.png": str(i // 10) for i in range(100)}
    point = OperatingPoint(100.0, alpha=0.1, n_calibration=100, guaranteed=True, n_parts=10)

    def rejecting(n_parts: int) -> dict[str, float]:
        return {name: 200.0 if int(part) < n_parts else 50.0 for name, part in parts.items()}

    refuse_defects(rejecting(1), point, parts)
    with pytest.raises(DataError, match="90 of 100 calibration images look defective"):
        refuse_defects(rejecting(9), point, parts)


def test_a_folder_that_the_model_knows_as_good_is_not_refused_by_chance() -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        scores = rng.normal(size=250)
        threshold = float(np.sort(scores[:100])[99])  # alpha 1 %, k = n
        try:
            refuse_defects(
                {str(i): score for i, score in enumerate(scores[100:])},
                OperatingPoint(threshold, alpha=0.01, n_calibration=100, guaranteed=True),
            )
        except DataError:
            refused += 1
    assert refused <= 8  # 0.1 % of 2000, and luck


@pytest.mark.parametrize(
    ("n_frames", "loss", "passes"), [(40, 0.019, True), (40, 0.021, False), (10, 0.039, True), (10, 0.041, False)]
)
def test_what_few_frames_show_by_chance_is_no_loss(
    gate: AcceptanceTest, n_frames: int, loss: float, passes: bool
) -> None:
    result, _ = gate.judge("int8", Brightness(), POINT, (0.9 - loss, 0.9, n_frames))
    assert result.passed == passes
