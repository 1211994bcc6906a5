"""The two steps before the result stage: prepare a frame in its camera's thread, run the engine on a batch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from simplenet_edge.errors import EngineError, EngineInputError
from simplenet_edge.runtime.detector import Detection, Detector
from simplenet_edge.runtime.records import Cause, FrameRecord
from simplenet_edge.spec import Frames

__all__ = ["Inspected", "Prepared", "inspect", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame as `detector` takes it, made from the record's image; or the reason why there is none."""

    record: FrameRecord
    detector: Detector
    frame: Frames | None = None
    preprocess_ms: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Inspected:
    """A prepared frame and what was detected; or the reason why it was not scored."""

    prepared: Prepared
    detection: Detection | None = None
    reason: str | None = None
    cause: Cause | None = None


def prepare(record: FrameRecord, detector: Detector) -> Prepared:
    """Make of a record's image what the detector's engine takes."""
    if record.image is None or record.error is not None:
        return Prepared(record, detector, reason=record.error or "the source gave no image and no reason")
    started = time.perf_counter()
    try:
        frame = detector.prepare(record.image)
    except EngineInputError as error:
        return Prepared(record, detector, reason=str(error))
    return Prepared(record, detector, frame, (time.perf_counter() - started) * 1000)


def inspect(batch: Sequence[Prepared], detector: Detector) -> list[Inspected]:
    """One call of the engine for all frames of a batch, in their order.

    Frames that another model prepared (it was swapped in between) are prepared again. Where the call fails, each frame
    is tried alone, so that one frame can't take the others with it.
    """
    batch = [p if p.detector is detector else prepare(p.record, detector) for p in batch]
    frames = [p.frame for p in batch if p.frame is not None]
    if not frames:
        return [Inspected(p, None, p.reason, "source") for p in batch]
    try:
        detections = iter(detector.infer(frames))
    except EngineError as error:
        if len(frames) > 1:
            return [outcome for p in batch for outcome in inspect([p], detector)]
        return [
            Inspected(p, None, p.reason, "source") if p.frame is None else Inspected(p, None, str(error), "engine")
            for p in batch
        ]
    return [
        Inspected(p, None, p.reason, "source") if p.frame is None else Inspected(p, _timed(next(detections), p))
        for p in batch
    ]


def _timed(detection: Detection, prepared: Prepared) -> Detection:
    times = dataclasses.replace(detection.times, preprocess_ms=prepared.preprocess_ms)
    return dataclasses.replace(detection, times=times)
