"""An ONNX graph of the contract, run by ONNX Runtime on the CPU: what precisions are measured with during export.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out.
"""

from __future__ import annotations

import onnx

from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.export.precision.fp16 import rounded_twin
from simplenet_edge.spec import Frames, Prediction

__all__ = ["GraphPredictor"]


class GraphPredictor:
    """Runs a graph as its types say, whatever kernels this CPU has.

    float16 is rounded where a device would round (see `rounded_twin`), Q/DQ pairs are computed as they stand.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._session = cpu_session(rounded_twin(graph))

    def predict(self, frames: Frames) -> Prediction:
        """Scores and maps of model frames."""
        return Prediction(*self._session.run(["score", "map"], {"frames": frames}))
