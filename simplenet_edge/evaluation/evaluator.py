"""What a model is worth on labelled images: figures, verdicts at the operating point, one row an image.

In: a predictor, samples, and the operating point that good calibration images gave. Test images are measured with it
and never change it. Everything is computed in model frames: maps float32 `(H, W)`, masks bool `(H, W)`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simplenet_edge.data.layouts import Sample
from simplenet_edge.data.reading import ReadFrame, batched, fitting_batch, read_frames, read_sample_mask
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.evaluation.metrics import (
    PixelScores,
    aupro,
    average_precision,
    best_f1,
    image_auroc,
    pixel_auroc,
    pixel_scores,
)
from simplenet_edge.evaluation.results import ClassMetrics, ConfusionCounts, Evaluation, ImageResult, Metrics
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import InputSpec, OperatingPoint, Prediction, Predictor

__all__ = ["evaluate"]


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    spec: InputSpec,
    operating_point: OperatingPoint,
    batch_size: int = 8,
    progress: Progress = ignore,
) -> Evaluation:
    """Score labelled samples and measure the model on them.

    Pixel figures are over the defective images whose mask has a pixel in the model frame, and all good images. For
    them every map is kept, 4 bytes a pixel, and for a moment twice that. A batch holds fewer than `batch_size` frames
    where they are large. `progress` counts the images.

    Raises DataError where there is no sample or too many are corrupt, EngineError for scores that aren't finite,
    ConfigError for a batch size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    if not samples:
        raise DataError("expected labelled test images, found none; name a folder with good and defective parts")
    reader = read_frames(samples, spec)
    pixels = _Pixels(spec, wanted=any(sample.mask_path for sample in samples))
    images: list[ImageResult] = []
    done = 0
    for batch in batched(reader, fitting_batch(batch_size, spec.size_hw)):
        prediction = _infer(predictor, batch)
        for read, score, anomaly_map in zip(batch, prediction.score.tolist(), prediction.map, strict=True):
            marked = _marked_share(anomaly_map, operating_point)
            images.append(ImageResult(read.sample, score, score > operating_point.threshold, marked))
            pixels.add(read, anomaly_map)
        done = len(images) + len(reader.corrupt)
        progress("evaluation", done, len(samples))
    if done < len(samples):
        progress("evaluation", len(samples), len(samples))

    names = {sample.path: sample.name for sample in samples}
    unreadable = [(names[path], reason.removeprefix(f"{path}: ")) for path, reason in reader.corrupt]
    groups = pixels.groups()
    return Evaluation(
        spec=spec,
        operating_point=operating_point,
        metrics=_metrics(images, groups),
        verdicts=_verdicts(images),
        classes=_class_metrics(images, groups, pixels.n_masks),
        images=tuple(images),
        corrupt=(*unreadable, *pixels.corrupt),
    )


class _Pixels:
    """Maps and masks of the images that count for the pixel figures, by defect class (None = good)."""

    def __init__(self, spec: InputSpec, wanted: bool) -> None:
        self.n_masks: dict[str | None, int] = {}
        self.corrupt: list[tuple[str, str]] = []
        self._spec = spec
        self._wanted = wanted
        self._maps: defaultdict[str | None, list[npt.NDArray[np.float32]]] = defaultdict(list)
        self._masks: defaultdict[str | None, list[npt.NDArray[np.bool_]]] = defaultdict(list)

    def add(self, read: ReadFrame, anomaly_map: npt.NDArray[np.float32]) -> None:
        if not self._wanted:
            return
        sample = read.sample
        try:
            mask = read_sample_mask(sample, self._spec, read.image_hw)
        except DataError as error:
            self.corrupt.append((sample.name, f"its mask, {error}"))
            return
        if mask is not None and (sample.defect is None or mask.any()):
            self._maps[sample.defect].append(anomaly_map)
            self._masks[sample.defect].append(mask)

    def groups(self) -> dict[str | None, PixelScores]:
        """Sort what was added, one class after the other, and let go of the maps."""
        self.n_masks = {defect: len(masks) for defect, masks in self._masks.items()}
        return {defect: pixel_scores(self._maps.pop(defect), self._masks.pop(defect)) for defect in self.n_masks}


def _infer(predictor: Predictor, batch: list[ReadFrame]) -> Prediction:
    frames = np.stack([read.frame for read in batch])
    prediction = predictor.predict(frames)
    assert prediction.score.shape == frames.shape[:1]
    assert prediction.map.shape == frames.shape[:3]
    for read, score, anomaly_map in zip(batch, prediction.score, prediction.map, strict=True):
        if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            raise EngineError(
                f"{read.sample.name}: the model gave a score or a map that is not finite; don't use this model"
            )
    return prediction


def _marked_share(anomaly_map: npt.NDArray[np.float32], point: OperatingPoint) -> float | None:
    return None if point.pixel_threshold is None else float(np.mean(anomaly_map > point.pixel_threshold))


def _metrics(images: Sequence[ImageResult], groups: dict[str | None, PixelScores]) -> Metrics:
    scores, labels = _scores_and_labels(images)
    best = best_f1(scores, labels)
    return Metrics(
        image_auroc=image_auroc(scores, labels),
        average_precision=average_precision(scores, labels),
        best_f1=best.f1 if best else None,
        best_f1_threshold=best.threshold if best else None,
        pixel_auroc=pixel_auroc(*groups.values()),
        aupro=aupro(*groups.values()),
    )


def _class_metrics(
    images: Sequence[ImageResult], groups: dict[str | None, PixelScores], n_masks: dict[str | None, int]
) -> tuple[ClassMetrics, ...]:
    classes = []
    for defect in sorted({image.sample.defect for image in images if image.sample.defect is not None}):
        members = [image for image in images if image.sample.defect in (None, defect)]
        pixels = [groups[key] for key in (None, defect) if key in groups] if defect in groups else []
        verdicts = _verdicts(members)
        classes.append(
            ClassMetrics(
                defect=defect,
                n=verdicts.n_defective,
                n_masks=n_masks.get(defect, 0),
                image_auroc=image_auroc(*_scores_and_labels(members)),
                recall=verdicts.recall,
                pixel_auroc=pixel_auroc(*pixels),
                aupro=aupro(*pixels),
            )
        )
    return tuple(classes)


def _scores_and_labels(images: Sequence[ImageResult]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    scores = np.array([image.score for image in images], np.float32)
    return scores, np.array([image.sample.defect is not None for image in images], np.bool_)


def _verdicts(images: Sequence[ImageResult]) -> ConfusionCounts:
    good = [image.rejected for image in images if image.sample.defect is None]
    defective = [image.rejected for image in images if image.sample.defect is not None]
    return ConfusionCounts(
        good_accepted=good.count(False),
        good_rejected=good.count(True),
        defective_rejected=defective.count(True),
        defective_accepted=defective.count(False),
    )
