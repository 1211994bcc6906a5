"""Where does an engine begin to differ? Every tensor of a graph beside what ONNX Runtime computes as the graph stands.

For an engine that `verify` refuses. A golden frame goes through both, with every tensor an output, so that nothing is
fused away: a fault of fusion itself does not show here. Polygraphy runs and compares; it is imported when asked for. What has run on which hardware: docs/hardware-status.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.contract import FRAMES, one_line
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable, ParityError
from simplenet_edge.spec import Frames

__all__ = ["LAYER_ENGINES", "LayerComparison", "LayerDifference", "compare_layers"]

LAYER_ENGINES = ("onnxruntime", "onnxruntime-cuda", "tensorrt")

_ALLOWED = {"fp32": 5e-3, "fp16": 2e-2, "int8": 5e-2}
"""The largest difference of a tensor, as a share of its own range, that the precision's rounding explains: differences of large numbers, as in the
memory, have ten times that of the result."""


@dataclass(frozen=True)
class LayerDifference:
    """One tensor: the operator that makes it, and the largest difference as a share of the tensor's range."""

    tensor: str
    worst: float


@dataclass(frozen=True)
class LayerComparison:
    """All tensors in the graph's order, and the first that differs by more than `allowed`; None where none does."""

    engine: str
    precision: str
    allowed: float
    layers: tuple[LayerDifference, ...]
    first: LayerDifference | None

    def require(self) -> LayerComparison:
        """Itself where no tensor drifts; raises ParityError otherwise."""
        if self.first is not None:
            raise ParityError(
                f"{self.engine} ({self.precision}) drifts first at {self.first.tensor}: expected at most "
                f"{self.allowed:.0e} of the tensor's range, found {self.first.worst:.1e}; what reads it follows. Build "
                "the engine again, take another precision, or report this"
            )
        return self


def compare_layers(
    graph: bytes, frames: Frames, engine: str, precision: str = "fp32", found: bytes | None = None
) -> LayerComparison:
    """Run `graph` on frames uint8 `(B, H, W, 3)` in ONNX Runtime, unoptimised, and in `engine`, tensor by tensor.

    `engine` is one of `LAYER_ENGINES`; with `found` it runs that graph instead, of the same names. Raises
    EngineUnavailable without polygraphy or the engine's library, EngineError where either fails.
    """
    if engine not in LAYER_ENGINES:
        raise ConfigError(f"layers can be compared on {', '.join(LAYER_ENGINES)}, not on {engine!r}")
    try:
        comparator = importlib.import_module("polygraphy.comparator")
        onnxrt = importlib.import_module("polygraphy.backend.onnxrt")
        onnx_backend = importlib.import_module("polygraphy.backend.onnx")
        everything = importlib.import_module("polygraphy.constants").MARK_ALL
        importlib.import_module("onnx")
        ort: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineUnavailable(
            f"comparing layers needs more packages ({error}); pip install polygraphy onnx"
        ) from error

    logger = importlib.import_module("polygraphy.logger").G_LOGGER
    logger.module_severity = logger.ERROR  # it writes to standard output

    def all_outputs(content: bytes) -> Any:
        loaded = onnx_backend.OnnxFromBytes(content)
        return onnx_backend.BytesFromOnnx(onnx_backend.ModifyOutputs(loaded, outputs=everything))

    reference = onnxrt.SessionFromOnnx(
        all_outputs(graph), graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    content = found or graph
    if engine == "tensorrt":
        runner = _tensorrt_runner(content, frames, everything)
    else:
        provider = "cuda" if engine == "onnxruntime-cuda" else "cpu"
        runner = onnxrt.OnnxrtRunner(onnxrt.SessionFromOnnx(all_outputs(content), providers=[provider]), name=engine)
    try:
        results = comparator.Comparator.run(
            [onnxrt.OnnxrtRunner(reference, name="reference"), runner], data_loader=[{FRAMES: frames}]
        )
        expected, other = (dict(iterations[0]) for _, iterations in results.items())
    except Exception as error:  # polygraphy's own, and those of the libraries behind it
        raise EngineError(f"{engine} can't run the graph with every tensor an output ({one_line(error)})") from error
    rows = tuple(LayerDifference(name, _worst(expected[name], other[name])) for name in _common(expected, other))
    allowed = _ALLOWED[precision]
    first = next((row for row in rows if not row.worst <= allowed), None)
    return LayerComparison(engine, precision, allowed, rows, first)


def _tensorrt_runner(graph: bytes, frames: Frames, everything: Any) -> Any:
    try:
        trt = importlib.import_module("polygraphy.backend.trt")
        importlib.import_module("tensorrt")
    except ImportError as error:
        raise EngineUnavailable(f"the tensorrt package is not installed ({error})") from error
    network = trt.ModifyNetworkOutputs(trt.NetworkFromOnnxBytes(graph, strongly_typed=True), outputs=everything)
    profile = trt.Profile().add(FRAMES, min=frames.shape, opt=frames.shape, max=frames.shape)
    engine = trt.EngineFromNetwork(network, config=trt.CreateConfig(profiles=[profile]))
    return trt.TrtRunner(engine, name="tensorrt")


def _common(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Tensors of numbers that both have, in the order of the reference's graph."""
    return [name for name, value in expected.items() if name in found and np.asarray(value).dtype.kind == "f"]


def _worst(expected: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """The largest difference, as a share of the range of the expected values; infinite where it is no number."""
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if a.shape != b.shape:
        return float("inf")
    worst = float(np.abs(a - b).max(initial=0.0)) / (float(np.ptp(a)) or float(np.abs(a).max(initial=0.0)) or 1.0)
    return worst if np.isfinite(worst) else float("inf")
