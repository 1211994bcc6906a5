"""Evaluation on small folders of real files, with a predictor whose right answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sklearn.metrics

from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.results import ConfusionCounts, Evaluation, write_evaluation
from simplenet_edge.imaging.decode import read_image, read_mask
from simplenet_edge.imaging.preprocess import preprocess, preprocess_mask
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, Prediction

SPEC = InputSpec(32, 40)
POINT = OperatingPoint(threshold=100.0, alpha=0.05, n_calibration=40, guaranteed=True)


class Brightness:
    """The map is the blue channel, the score its maximum."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, frames: Frames) -> Prediction:
        self.batches.append(len(frames))
        maps = frames[..., 0].astype(np.float32)
        return Prediction(maps.max(axis=(1, 2)), maps)


def write_image(path: Path, brightest: int, mask: Path | None = None) -> None:
    """A dark image of the model's size with one bright block, and the block's mask."""
    image = np.full((*SPEC.size_hw, 3), 20, np.uint8)
    image[8:14, 10:16] = brightest
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    if mask:
        mask.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(mask), np.where(image[..., 0] == brightest, 255, 0).astype(np.uint8))


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """24 good images (one scores above 100, one exactly 100), 3 holes with masks, 2 scratches without."""
    made = []
    for defect, scores in (
        (None, [30, 100, 120, *range(31, 52)]),
        ("hole", [90, 150, 200]),
        ("scratch", [60, 220]),
    ):
        for index, score in enumerate(scores):
            name = f"{defect or 'good'}/{index:02}.png"
            mask = tmp_path / f"masks/{name}" if defect == "hole" else None
            write_image(tmp_path / name, score, mask)
            made.append(Sample(tmp_path / name, defect, mask, name))
    return made


def strict_json(evaluation: Evaluation) -> Any:
    return json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))


def test_the_pixel_threshold_measures_the_area_and_decides_nothing(samples: list[Sample]) -> None:
    point = OperatingPoint(100.0, 0.05, 40, guaranteed=True, pixel_threshold=89.5)
    marked, plain = (evaluate(Brightness(), samples, SPEC, p) for p in (point, POINT))
    block = 6 * 6 / (32 * 40)
    assert [image.marked_share for image in marked.images] == [block if i.score > 89.5 else 0 for i in marked.images]
    assert [image.rejected for image in marked.images] == [image.rejected for image in plain.images]
    assert marked.metrics == plain.metrics
    assert {image.marked_share for image in plain.images} == {None}


def test_rows_verdicts_and_figures_are_what_the_images_say(samples: list[Sample]) -> None:
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    assert [image.sample for image in evaluation.images] == samples
    assert [image.score for image in evaluation.images][:3] == [30, 100, 120]
    assert [image.rejected for image in evaluation.images][:3] == [False, False, True]  # 100 is not above 100
    assert evaluation.operating_point is POINT

    verdicts = evaluation.verdicts
    assert verdicts == ConfusionCounts(good_accepted=23, good_rejected=1, defective_rejected=3, defective_accepted=2)
    assert (verdicts.false_reject_rate, verdicts.recall) == (1 / 24, 3 / 5)
    assert (verdicts.precision, verdicts.accuracy) == (3 / 4, 26 / 29)

    scores = [image.score for image in evaluation.images]
    labels = [image.sample.defect is not None for image in evaluation.images]
    assert evaluation.metrics.image_auroc == sklearn.metrics.roc_auc_score(labels, scores)
    assert evaluation.metrics.average_precision == sklearn.metrics.average_precision_score(labels, scores)
    assert evaluation.metrics.best_f1 == pytest.approx(2 * 5 / (5 + 7))  # 5 of the 7 above 51 are defective
    assert evaluation.metrics.best_f1_threshold == 51


def test_each_class_is_measured_against_all_good_images(samples: list[Sample]) -> None:
    hole, scratch = evaluate(Brightness(), samples, SPEC, POINT).classes
    assert (hole.defect, hole.n, hole.n_masks, hole.recall) == ("hole", 3, 3, 2 / 3)
    assert hole.image_auroc == pytest.approx((22 + 24 + 24) / (3 * 24))  # 90 is below two good ones
    assert (scratch.defect, scratch.n, scratch.n_masks, scratch.recall) == ("scratch", 2, 0, 1 / 2)
    assert scratch.image_auroc == pytest.approx((22 + 24) / (2 * 24))
    assert scratch.pixel_auroc is None
    assert scratch.aupro is None


def test_pixel_figures_use_all_good_images_and_only_masked_defects(samples: list[Sample]) -> None:
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    counted = [sample for sample in samples if sample.defect is None or sample.mask_path]
    maps = np.stack([read_image(sample.path)[..., 0] for sample in counted])
    masks = np.stack([read_image(s.mask_path)[..., 0] > 0 if s.mask_path else np.zeros_like(maps[0]) for s in counted])
    expected = sklearn.metrics.roc_auc_score(masks.ravel(), maps.ravel())
    assert evaluation.metrics.pixel_auroc == pytest.approx(expected)
    assert evaluation.classes[0].pixel_auroc == pytest.approx(expected)  # holes are the only class with masks
    # By hand: 36 pixels a block. The hole of 90 is outscored by the blocks of two good images, the others by none.
    normal = masks.size - np.count_nonzero(masks)
    assert evaluation.metrics.aupro == pytest.approx(1 - (2 * 36 / normal) / 0.3 / 3)


def test_the_batch_size_changes_nothing(samples: list[Sample]) -> None:
    predictor = Brightness()
    assert evaluate(predictor, samples, SPEC, POINT, batch_size=1) == evaluate(Brightness(), samples, SPEC, POINT)
    assert set(predictor.batches) == {1}


def test_batches_are_full_but_the_last(samples: list[Sample]) -> None:
    predictor = Brightness()
    evaluate(predictor, samples, SPEC, POINT, batch_size=12)
    assert predictor.batches == [12, 12, 5]


def test_progress_counts_up_to_the_end(samples: list[Sample]) -> None:
    calls: list[tuple[int, int]] = []
    samples[-1].path.write_bytes(b"not an image")  # the last one, after the last batch
    evaluate(
        Brightness(), samples, SPEC, POINT, batch_size=7, progress=lambda _, done, total: calls.append((done, total))
    )
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (29, 29)
    assert {total for _, total in calls} == {29}


def test_a_corrupt_image_is_listed_and_left_out(samples: list[Sample]) -> None:
    samples[3].path.write_bytes(b"not an image")
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    assert len(evaluation.images) == 28
    assert evaluation.verdicts.n_good == 23
    ((name, reason),) = evaluation.corrupt
    assert name == "good/03.png"
    assert reason.startswith("is no image")
    assert strict_json(evaluation)["corrupt"] == [{"path": name, "reason": reason}]


def test_many_corrupt_images_are_an_error(samples: list[Sample]) -> None:
    for sample in samples[:4]:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError, match="can't be used"):
        evaluate(Brightness(), samples, SPEC, POINT)


def test_a_corrupt_mask_costs_the_pixel_figures_only(samples: list[Sample]) -> None:
    hole = next(sample for sample in samples if sample.mask_path)
    assert hole.mask_path
    hole.mask_path.write_bytes(b"not an image")
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    assert len(evaluation.images) == len(samples)
    assert [name for name, _ in evaluation.corrupt] == [hole.name]
    assert "its mask" in evaluation.corrupt[0][1]
    assert (evaluation.classes[0].n, evaluation.classes[0].n_masks) == (3, 2)
    assert evaluation.metrics.aupro == pytest.approx(1)  # the two holes that are left outscore everything


def test_a_mask_that_vanishes_in_the_model_frame_is_not_a_clean_image(samples: list[Sample]) -> None:
    hole = next(sample for sample in samples if sample.mask_path)
    assert hole.mask_path
    assert cv2.imwrite(str(hole.mask_path), np.zeros(SPEC.size_hw, np.uint8))
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    assert evaluation.classes[0].n_masks == 2
    assert evaluation.metrics.aupro == pytest.approx(1)
    assert evaluation.corrupt == ()


def test_good_images_alone_give_a_false_reject_rate_and_no_other_figure(samples: list[Sample]) -> None:
    evaluation = evaluate(Brightness(), samples[:24], SPEC, POINT)
    values = strict_json(evaluation)
    assert {key for key, value in values["metrics"].items() if value is not None} == {"aupro_limit"}
    assert values["verdicts"]["false_reject_rate"] == 1 / 24
    assert values["verdicts"]["recall"] is None
    assert values["verdicts"]["precision"] == 0.0
    assert values["classes"] == []


def test_defective_images_alone_give_a_recall(samples: list[Sample]) -> None:
    evaluation = evaluate(Brightness(), samples[24:], SPEC, POINT)
    assert evaluation.verdicts.recall == 3 / 5
    assert evaluation.verdicts.false_reject_rate is None
    assert evaluation.metrics.image_auroc is None
    assert evaluation.metrics.pixel_auroc is not None  # normal pixels of defective images
    strict_json(evaluation)


def test_nothing_rejected_has_no_precision(samples: list[Sample]) -> None:
    point = OperatingPoint(255.0, 0.05, 40, guaranteed=True)
    evaluation = evaluate(Brightness(), samples, SPEC, point)
    assert evaluation.verdicts.precision is None
    assert evaluation.verdicts.recall == 0.0


@pytest.mark.parametrize("where", ["score", "map"])
def test_numbers_that_are_not_finite_are_an_error(samples: list[Sample], where: str) -> None:
    class Broken(Brightness):
        def predict(self, frames: Frames) -> Prediction:
            prediction = super().predict(frames)
            getattr(prediction, where).flat[-1] = np.nan
            return prediction

    with pytest.raises(EngineError, match=r"good/01.png: .* not finite"):
        evaluate(Broken(), samples[:2], SPEC, POINT)


def test_options_and_samples_are_checked() -> None:
    with pytest.raises(DataError, match="found none"):
        evaluate(Brightness(), [], SPEC, POINT)
    with pytest.raises(ConfigError, match="batch_size"):
        evaluate(Brightness(), [], SPEC, POINT, batch_size=0)


def test_the_file_is_strict_json_and_replaces_the_old_one(samples: list[Sample], tmp_path: Path) -> None:
    odd = Sample(samples[0].path, None, None, "good/\udcff.png")  # a file name that is not UTF-8
    evaluation = evaluate(Brightness(), [odd, *samples[1:]], SPEC, POINT)
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = write_evaluation(folder, evaluation)
    assert [file.name for file in folder.iterdir()] == ["evaluation.json"]
    values = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"found {name}"))
    assert values["images"][0] == {
        "path": "good/?.png",
        "defect": None,
        "score": 30.0,
        "verdict": "OK",
        "marked_share": None,
    }
    assert values["images"][-1]["verdict"] == "NG"
    assert values["operating_point"]["threshold"] == 100.0
    assert values["input"]["height"] == 32
    assert values["classes"][1]["aupro"] is None


def test_a_write_that_fails_leaves_nothing_behind(samples: list[Sample], tmp_path: Path) -> None:
    evaluation = evaluate(Brightness(), samples, SPEC, POINT)
    (tmp_path / "out" / "evaluation.json").mkdir(parents=True)  # a folder is in the way
    with pytest.raises(DataError, match="can't be written"):
        write_evaluation(tmp_path / "out", evaluation)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["evaluation.json"]
    with pytest.raises(DataError, match="can't be written"):
        write_evaluation(samples[0].path, evaluation)  # a file is in the way


def test_figures_on_real_images_agree_with_scikit_learn(shared: Path) -> None:
    class LocalContrast:
        def predict(self, frames: Frames) -> Prediction:
            grey = frames[..., 0].astype(np.float32)
            maps = np.stack([np.abs(cv2.GaussianBlur(g, (0, 0), 1.5) - cv2.GaussianBlur(g, (0, 0), 12)) for g in grey])
            return Prediction(maps.max(axis=(1, 2)), maps)

    root = shared / "data" / "magnetic_tile"
    samples = [Sample(path, None, None, path.name) for path in sorted((root / "test" / "good").iterdir())[::16]]
    for path in sorted((root / "test" / "blowhole").iterdir())[::12]:
        mask = root / "ground_truth" / "blowhole" / f"{path.stem}_mask.png"
        samples.append(Sample(path, "blowhole", mask, path.name))
    spec = InputSpec(96, 128)
    evaluation = evaluate(LocalContrast(), samples, spec, OperatingPoint(60.0, 0.1, 20, guaranteed=True))

    frames = np.stack([preprocess(read_image(sample.path), spec) for sample in samples])
    prediction = LocalContrast().predict(frames)
    labels = np.array([sample.defect is not None for sample in samples])
    masks = np.zeros(prediction.map.shape, np.bool_)
    for mask, sample in zip(masks, samples, strict=True):
        if sample.mask_path:
            mask[:] = preprocess_mask(read_mask(sample.mask_path), spec)
    kept = ~labels | masks.any(axis=(1, 2))
    assert evaluation.metrics.image_auroc == sklearn.metrics.roc_auc_score(labels, prediction.score)
    pixel_auroc = sklearn.metrics.roc_auc_score(masks[kept].ravel(), prediction.map[kept].ravel())
    assert evaluation.metrics.pixel_auroc == pytest.approx(pixel_auroc, abs=1e-9)
    assert pixel_auroc > 0.6  # contrast does find blowholes: the masks lie where the frames say
