"""One figure for how well a graph agrees with FP32: what calibrations and layers are compared by, without labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from simplenet_edge.comparison import Differences
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.spec import Frames, Predictor

__all__ = ["Agreement"]


class Agreement:
    """A few model frames uint8 `(H, W, 3)` with their reference predictions."""

    def __init__(self, reference: Predictor, frames: Iterable[Frames]) -> None:
        self._frames = [frame[np.newaxis] for frame in frames]
        self._expected = [reference.predict(frame) for frame in self._frames]

    def difference(self, graph: onnx.ModelProto) -> float:
        """Mean difference of the maps, as a share of the range of the reference maps; 0 is perfect."""
        predictor, apart = GraphPredictor(graph), Differences()
        for frame, expected in zip(self._frames, self._expected, strict=True):
            apart.add(predictor.predict(frame), expected)
        return apart.map_mean
