"""One figure for how well a graph agrees with FP32: what calibrations and layers are compared by, without labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from simplenet_edge.engines.verify import map_scale
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.spec import Frames, Prediction, Predictor

__all__ = ["Agreement"]


class Agreement:
    """A few model frames uint8 `(H, W, 3)` with their reference maps."""

    def __init__(self, reference: Predictor, frames: Iterable[Frames]) -> None:
        self._frames = list(frames)
        expected = [reference.predict(frame[np.newaxis]) for frame in self._frames]
        self._maps = [prediction.map for prediction in expected]
        self._scale = map_scale(Prediction(expected[0].score, np.concatenate(self._maps)))

    def difference(self, graph: onnx.ModelProto) -> float:
        """Mean difference of the maps, as a share of the range of the reference maps; 0 is perfect."""
        predictor = GraphPredictor(graph)
        found = (predictor.predict(frame[np.newaxis]).map for frame in self._frames)
        apart = [float(np.abs(a - b).mean()) for a, b in zip(found, self._maps, strict=True)]
        return float(np.mean(apart)) / self._scale
