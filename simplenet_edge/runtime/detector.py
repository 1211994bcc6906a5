"""One camera image in, one verdict out.

In: an image uint8 `(H0, W0, 3)` BGR of any size. Out: a raw score, the threshold it was held against, and a map float32
`(H, W)` of the model's size, which lies over the preprocessed frame uint8 `(H, W, 3)`, not over the camera image.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import DataError, EngineInputError
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.spec import Frames, InputSpec

__all__ = ["Detection", "Detector", "StageTimes", "engine_frame"]


@dataclass(frozen=True)
class StageTimes:
    """Wall time of each stage in milliseconds. In a batch, each image carries its share of the call."""

    preprocess_ms: float
    infer_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        """From the camera image to the verdict."""
        return self.preprocess_ms + self.infer_ms + self.post_ms


@dataclass(frozen=True, eq=False)
class Detection:
    """What was decided about one image: NG when `score > threshold`, OK otherwise.

    `frame` is what the engine was given, `map` float32 `(H, W)` what it said of it, `spec` how one becomes the other.
    Of the map, `normal_level` is drawn as fully normal (the median score of the good calibration images) and
    `map_threshold` as where defects begin (the pixel threshold, or where there is none the score's).
    """

    verdict: Literal["OK", "NG"]
    score: float
    threshold: float
    map: npt.NDArray[np.float32]
    frame: Frames
    spec: InputSpec
    times: StageTimes
    normal_level: float
    map_threshold: float

    @property
    def model_frame(self) -> Frames:
        """What the model saw, uint8 `(H, W, 3)`, of the map's size; resized once more where the graph did that."""
        return self.frame if self.frame.shape[:2] == self.map.shape else preprocess(self.frame, self.spec)


class Detector:
    """Preprocessing, an engine and the bundle's threshold.

    The engine must be open while `inspect` runs; who opened it closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bundle = engine.bundle
        self.bundle_id = engine.bundle.id
        self.spec = engine.bundle.manifest.input
        record = engine.bundle.record(engine.precision)
        self.operating_point = record.operating_point
        self.threshold = record.operating_point.threshold
        self.pixel_threshold = record.operating_point.pixel_threshold
        self.score_statistics = record.score_statistics

    def inspect(self, image: Frames) -> Detection:
        """The verdict on one image uint8 `(H0, W0, 3)` BGR. Raises EngineInputError or EngineError."""
        return self.inspect_batch([image])[0]

    def inspect_batch(self, images: Sequence[Frames]) -> list[Detection]:
        """The verdicts on images uint8 `(H0, W0, 3)` BGR, at least one; their sizes may differ.

        One call of the engine. Raises EngineInputError or EngineError.
        """
        started = time.perf_counter()
        frames = [self.prepare(image) for image in images]
        return self.infer(frames, (time.perf_counter() - started) * 1000)

    def prepare(self, image: Frames) -> Frames:
        """What the engine takes of an image uint8 `(H0, W0, 3)` BGR; from any thread. Raises EngineInputError."""
        return engine_frame(image, self.bundle)

    def infer(self, frames: Sequence[Frames], preprocess_ms: float = 0.0) -> list[Detection]:
        """The verdicts on frames that `prepare` gave, at least one, in one call of the engine.

        `preprocess_ms` is what preparing all of them took, for the record. Raises EngineInputError or EngineError.
        """
        if not frames:
            raise EngineInputError("expected at least one image, found none")
        started = time.perf_counter()
        score, maps = self.engine.predict(np.stack(frames))
        inferred = time.perf_counter()
        verdicts: list[Literal["OK", "NG"]] = ["NG" if float(value) > self.threshold else "OK" for value in score]
        done = time.perf_counter()
        share = 1 / len(frames)
        times = StageTimes(
            preprocess_ms=preprocess_ms * share,
            infer_ms=(inferred - started) * 1000 * share,
            post_ms=(done - inferred) * 1000 * share,
        )
        return [
            Detection(
                verdict,
                float(score[i]),
                self.threshold,
                maps[i],
                frames[i],
                self.spec,
                times,
                normal_level=self.score_statistics.median,
                map_threshold=self.threshold if self.pixel_threshold is None else self.pixel_threshold,
            )
            for i, verdict in enumerate(verdicts)
        ]


def engine_frame(image: Frames, bundle: Bundle) -> Frames:
    """An image uint8 `(H0, W0, 3)` BGR as a bundle's graphs take it: a model frame, or itself where they resize.

    Raises EngineInputError.
    """
    _check(image)
    if bundle.manifest.frame_hw is None:
        try:
            return preprocess(image, bundle.manifest.input)
        except DataError as error:
            raise EngineInputError(str(error)) from error
    if image.shape[:2] != bundle.frame_hw:
        height, width = bundle.frame_hw
        raise EngineInputError(
            f"this bundle takes camera frames of {width}x{height} pixels, found {image.shape[1]}x{image.shape[0]}; "
            "set the camera to that size, or export without --frame"
        )
    return image


def _check(image: Frames) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise EngineInputError(f"expected an image uint8 (H, W, 3) BGR, found {found}; decode it first")
    if image.size == 0:
        raise EngineInputError(f"the image of shape {image.shape} has no pixels")
