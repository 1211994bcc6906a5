"""The two steps before the result stage: prepare a frame in its camera's thread, run the engines on a batch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simplenet_edge.errors import EngineError, EngineInputError, RecipeError
from simplenet_edge.runtime.detector import Detection, Detector
from simplenet_edge.runtime.records import Cause, FrameRecord
from simplenet_edge.spec import Frames

__all__ = ["FindDetector", "Inspected", "Prepared", "inspect", "prepare"]


FindDetector = Callable[["str | None"], Detector]
"""The detector of a recipe. Raises RecipeError."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame as `detector` takes it, made from the record's image; or the reason why there is none.

    `detector` is None where no loaded model belongs to the record's recipe.
    """

    record: FrameRecord
    detector: Detector | None
    frame: Frames | None = None
    preprocess_ms: float = 0.0
    reason: str | None = None
    cause: Cause | None = None


@dataclass(frozen=True, eq=False)
class Inspected:
    """A prepared frame and what was detected; or the reason why it was not scored."""

    prepared: Prepared
    detection: Detection | None = None
    reason: str | None = None
    cause: Cause | None = None


def prepare(record: FrameRecord, find: FindDetector) -> Prepared:
    """Make of a record's image what the engine of its recipe takes."""
    try:
        detector = find(record.part.recipe)
    except RecipeError as error:
        return Prepared(record, None, reason=record.error or str(error), cause="source" if record.error else "recipe")
    return _prepare(record, detector)


def _prepare(record: FrameRecord, detector: Detector) -> Prepared:
    if record.image is None or record.error is not None:
        reason = record.error or "the source gave no image and no reason"
        return Prepared(record, detector, reason=reason, cause="source")
    started = time.perf_counter()
    try:
        frame = detector.prepare(record.image)
    except EngineInputError as error:
        return Prepared(record, detector, reason=str(error), cause="source")
    return Prepared(record, detector, frame, (time.perf_counter() - started) * 1000)


def inspect(batch: Sequence[Prepared], find: FindDetector) -> list[Inspected]:
    """One call for each engine that frames of the batch belong to; the outcomes in the batch's order.

    A frame that another model prepared (it was swapped or loaded in between) is prepared again. Where a call fails,
    each frame is tried alone, so that one frame can't take the others with it.
    """
    batch = [_renewed(p, find) for p in batch]
    outcomes = {id(p): Inspected(p, None, p.reason, p.cause) for p in batch if p.frame is None}
    for detector in dict.fromkeys(p.detector for p in batch if p.frame is not None):
        assert detector is not None  # it made the frame
        outcomes.update(_infer([p for p in batch if p.frame is not None and p.detector is detector], detector))
    return [outcomes[id(p)] for p in batch]


def _renewed(prepared: Prepared, find: FindDetector) -> Prepared:
    try:
        if find(prepared.record.part.recipe) is prepared.detector:
            return prepared
    except RecipeError:
        if prepared.detector is None:
            return prepared
    return prepare(prepared.record, find)


def _infer(group: Sequence[Prepared], detector: Detector) -> dict[int, Inspected]:
    """The outcomes of frames that one detector prepared, by the id of each."""
    try:
        detections = detector.infer([p.frame for p in group if p.frame is not None])
    except EngineError as error:
        if len(group) > 1:
            return {key: outcome for p in group for key, outcome in _infer([p], detector).items()}
        return {id(group[0]): Inspected(group[0], None, str(error), "engine")}
    return {id(p): Inspected(p, _timed(found, p)) for p, found in zip(group, detections, strict=True)}


def _timed(detection: Detection, prepared: Prepared) -> Detection:
    times = dataclasses.replace(detection.times, preprocess_ms=prepared.preprocess_ms)
    return dataclasses.replace(detection, times=times)
