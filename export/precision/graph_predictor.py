"""An ONNX graph of the contract, run by ONNX Runtime on the CPU: what precisions are measured with during export.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out.
"""

from __future__ import annotations

import onnx
import onnxruntime

from simplenet_edge.export.precision.fp16 import rounded_twin
from simplenet_edge.spec import Frames, Prediction

__all__ = ["GraphPredictor"]

_ERRORS_ONLY = 3


class GraphPredictor:
    """Runs a graph as its types say, whatever kernels this CPU has.

    float16 is rounded where a device would round (see `rounded_twin`), and Q/DQ pairs are computed as they stand, in
    float32, so that the result does not depend on the CPU's 8-bit instructions, which saturate on older ones.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        text = rounded_twin(graph).SerializeToString()
        self._session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])

    def predict(self, frames: Frames) -> Prediction:
        """Scores and maps of model frames."""
        return Prediction(*self._session.run(["score", "map"], {"frames": frames}))
