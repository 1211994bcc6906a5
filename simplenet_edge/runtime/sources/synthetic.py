"""Parts that no camera saw, for a line without one: seeded, with a sensor's noise, some with a dark spot."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.device import EndOfFrames, LiveSettings
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.spec import Frames

__all__ = ["SyntheticCamera", "SyntheticFrames", "SyntheticParts"]

_NOISE = 6  # grey levels up and down
_SPOT = (20, 20, 20)


@dataclass(frozen=True)
class SyntheticParts:
    """What is drawn: `frames` parts, or without end where that is None, a share `defects` of them with a spot."""

    size_wh: tuple[int, int] = (640, 480)
    seed: int = 0
    defects: float = 0.0
    frames: int | None = None

    def __post_init__(self) -> None:
        if min(self.size_wh) < 16 or max(self.size_wh) > 16384:
            raise SourceError(f"test://: expected a size of 16x16 to 16384x16384, not {self.size_wh}")
        if not 0.0 <= self.defects <= 1.0:
            raise SourceError(f"test://: defects must be a share between 0 and 1, not {self.defects}")

    def images(self) -> Iterator[tuple[bool, Frames]]:
        """Each part, uint8 `(H, W, 3)`, and whether it has a spot; the same ones for the same numbers."""
        width, height = self.size_wh
        rng = np.random.default_rng(self.seed)
        slope = np.linspace(110, 150, width)[None, :, None] + np.linspace(-15, 15, height)[:, None, None]
        part = np.broadcast_to(slope, (height, width, 3)).astype(np.uint8)
        noise = rng.integers(0, 2 * _NOISE + 1, (height, width, 3), dtype=np.uint8)
        for _ in range(self.frames) if self.frames is not None else itertools.count():
            shift = int(rng.integers(height)), int(rng.integers(width))
            image = part + np.roll(noise, shift, (0, 1))
            has_spot = bool(rng.random() < self.defects)
            if has_spot:
                x, y = (int(rng.integers(size // 4, size - size // 4)) for size in self.size_wh)
                cv2.circle(image, (x, y), max(2, min(self.size_wh) // 24), _SPOT, -1)
            yield has_spot, image


class SyntheticFrames(Source):
    """Parts as fast as they are asked for, each one. `-defect` at the end of a name tells the truth about it."""

    def __init__(self, parts: SyntheticParts) -> None:
        super().__init__("test")
        self.parts = parts

    def _open(self) -> None:
        pass

    def _close(self) -> None:
        pass

    def __iter__(self) -> Iterator[FrameRecord]:
        for frame_id, (has_spot, image) in enumerate(self.parts.images()):
            if self.stopping.is_set():
                return
            name = f"{self.name}#{frame_id}{'-defect' if has_spot else ''}"
            yield FrameRecord(frame_id, name, utc_now(), image)


class SyntheticCamera(LiveSource):
    """Parts at a camera's pace, whether somebody takes them or not."""

    def __init__(self, parts: SyntheticParts, fps: float, settings: LiveSettings | None = None) -> None:
        super().__init__("test", settings)
        self.parts = parts
        self.fps = fps

    def _connect(self) -> _Clocked:
        return _Clocked(self.parts, 1.0 / self.fps, self.stopping)


class _Clocked:
    """A device that gives an image each `period_s`."""

    def __init__(self, parts: SyntheticParts, period_s: float, stopping: threading.Event) -> None:
        self._images = parts.images()
        self._period_s = period_s
        self._stopping = stopping
        self._due_s = time.monotonic()

    def read(self) -> Frames:
        now_s = time.monotonic()
        self._due_s = max(self._due_s + self._period_s, now_s - self._period_s)
        try:
            _, image = next(self._images)
        except StopIteration:
            raise EndOfFrames from None
        self._stopping.wait(max(0.0, self._due_s - now_s))
        return image

    def close(self) -> None:
        pass
