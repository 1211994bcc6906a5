"""Where does an engine begin to differ? Every tensor of a graph beside what ONNX Runtime computes as the graph stands.

For an engine that `verify` refuses. A golden frame goes through both, with every tensor an output, so that nothing is
fused away: a fault of fusion itself does not show here. Polygraphy runs and compares; it is imported when asked for.
What has run on which hardware: docs/hardware-status.md.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.contract import FRAMES, one_line
from simplenet_edge.engines.onnxruntime import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    OnnxRuntimeCudaEngine,
    OnnxRuntimeEngine,
    session_options,
)
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable, ParityError
from simplenet_edge.spec import Frames

__all__ = ["LAYER_ENGINES", "LayerComparison", "LayerDifference", "compare_layers"]

LAYER_ENGINES = (OnnxRuntimeEngine.name, OnnxRuntimeCudaEngine.name, "tensorrt")

_ALLOWED = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.25}
"""The difference of a tensor that the precision's rounding explains. In INT8 a value between two steps may fall to
either side, and layers behind it see a whole step."""


@dataclass(frozen=True)
class LayerDifference:
    """One tensor, and the root mean square of its difference as a share of its standard deviation."""

    tensor: str
    difference: float


@dataclass(frozen=True)
class LayerComparison:
    """All tensors in the graph's order, and how far each may differ."""

    engine: str
    precision: str
    allowed: float
    layers: tuple[LayerDifference, ...]

    @property
    def first(self) -> LayerDifference | None:
        """The first that differs by more than `allowed`; None where none does."""
        return next((row for row in self.layers if not row.difference <= self.allowed), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        first = self.first
        return {**dataclasses.asdict(self), "first": None if first is None else dataclasses.asdict(first)}

    def require(self) -> LayerComparison:
        """Itself where no tensor drifts; raises ParityError otherwise."""
        if (first := self.first) is not None:
            raise ParityError(
                f"{self.engine} ({self.precision}) drifts first at {first.tensor}: expected at most "
                f"{self.allowed:.0e} of the tensor's spread, found {first.difference:.1e}; what reads it follows. "
                "Build the engine again, take another precision, or report this"
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

    def session(content: bytes, provider: str, optimized: bool) -> Any:
        marked = onnx_backend.ModifyOutputs(onnx_backend.OnnxFromBytes(content), outputs=everything)
        options = session_options(ort)
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(onnx_backend.BytesFromOnnx(marked)(), options, providers=[provider])

    reference = onnxrt.OnnxrtRunner(session(graph, CPU_PROVIDER, optimized=False), name="reference")
    content = found or graph
    if engine == "tensorrt":
        runner = _tensorrt_runner(content, frames, everything)
    else:
        provider = CUDA_PROVIDER if engine == OnnxRuntimeCudaEngine.name else CPU_PROVIDER
        runner = onnxrt.OnnxrtRunner(session(content, provider, optimized=True), name=engine)
    try:
        results = comparator.Comparator.run([reference, runner], data_loader=[{FRAMES: frames}])
        expected, other = (dict(iterations[0]) for _, iterations in results.items())
    except Exception as error:  # polygraphy's own, and those of the libraries behind it
        raise EngineError(f"{engine} can't run the graph with every tensor an output ({one_line(error)})") from error
    rows = tuple(LayerDifference(name, _difference(expected[name], other[name])) for name in _common(expected, other))
    return LayerComparison(engine, precision, _ALLOWED[precision], rows)


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


def _difference(expected: npt.ArrayLike, found: npt.ArrayLike) -> float:
    """Root mean square of the difference over the spread of the expected values; infinite where it is no number."""
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if a.shape != b.shape:
        return float("inf")
    spread = float(a.std()) or float(np.abs(a).max(initial=0.0)) or 1.0
    found_difference = float(np.sqrt(np.mean((a - b) ** 2))) / spread
    return found_difference if np.isfinite(found_difference) else float("inf")
