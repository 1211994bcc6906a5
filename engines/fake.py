"""An engine without a model, for tests of streams and sinks and for trying out a line before a model exists.

It keeps the whole contract and needs nothing installed. The map of a frame is how far each pixel's grey value is from
the frame's mean grey value, 0..255; the score is the largest value of the map. So a spot on an even part scores high.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import ClassVar

import numpy as np

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.spec import Frames, Prediction

__all__ = ["FakeEngine"]


class FakeEngine(Engine):
    """Scores frames by their contrast, in `service_time_ms` a call; calls in `fail_on` (from 0) raise EngineError."""

    name: ClassVar[str] = "fake"

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "fp32",
        *,
        service_time_ms: float = 0.0,
        fail_on: Collection[int] = (),
    ) -> None:
        super().__init__(bundle, precision)
        if service_time_ms < 0:
            raise ConfigError(f"service_time_ms must be at least 0, not {service_time_ms}")
        self.service_time_ms = service_time_ms
        self.fail_on = frozenset(fail_on)
        self.calls = 0

    @property
    def provider(self) -> str:
        """Always "numpy"."""
        return "numpy"

    def _open(self) -> None:
        self.calls = 0

    def _predict(self, frames: Frames) -> Prediction:
        call, self.calls = self.calls, self.calls + 1
        time.sleep(self.service_time_ms / 1000)
        if call in self.fail_on:
            raise EngineError(f"the fake engine fails on call {call}, as it was told to")
        if self.frame_hw != self.map_hw:
            frames = np.stack([preprocess(frame, self.bundle.manifest.input) for frame in frames])
        grey = frames.mean(axis=3, dtype=np.float32)
        anomaly_map = np.abs(grey - grey.mean(axis=(1, 2), keepdims=True))
        return Prediction(anomaly_map.max(axis=(1, 2)), anomaly_map)

    def _close(self) -> None:
        pass
