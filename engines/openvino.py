"""OpenVINO on the CPU: the fast way to run INT8 graphs there.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out, in arrays of their own.
The graph is compiled once, for one frame: fixed shapes run faster than free ones, and a frame then gives the same
numbers in any batch. The frames of a batch go one by one (`latency`) or side by side (`throughput`).
The library is imported when an engine opens, never when this module does.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from simplenet_edge.bundle import Bundle
from simplenet_edge.contract import FRAMES, MAP, SCORE, check_contract, one_line
from simplenet_edge.engines.base import Engine, check_threads
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Hint", "OpenVinoEngine"]

Hint = Literal["latency", "throughput"]

_DEVICE = "CPU"
_TYPES = {"u8": "uint8", "f32": "float32"}
_TELEMETRY = "openvino_telemetry"


class OpenVinoEngine(Engine):
    """Compiles the ONNX graph for this CPU when it opens; computes in FP32 what the graph says is FP32.

    `hint`: `latency` gives all threads to one frame; `throughput` runs several frames of a batch at the same time,
    which pays from about as many frames a call as there are cores. `threads` is the number of CPU threads in all;
    None leaves it to OpenVINO.
    """

    name: ClassVar[str] = "openvino"

    def __init__(
        self, bundle: Bundle, precision: str = "fp32", threads: int | None = None, hint: Hint = "latency"
    ) -> None:
        super().__init__(bundle, precision)
        check_threads(threads)
        if hint not in get_args(Hint):
            raise ConfigError(f"hint must be one of {', '.join(get_args(Hint))}, not {hint!r}")
        self.threads = threads
        self.hint = hint
        self._queue: Any = None
        self._provider = ""

    @property
    def provider(self) -> str:
        """OpenVINO's device. Raises EngineError before the engine is open."""
        if self._queue is None:
            raise EngineError("the engine is not open, so it has no provider yet; use it inside `with engine:`")
        return self._provider

    def _open(self) -> None:
        openvino = _import_library()
        graph = self.bundle.graph(self.precision)
        options = {"PERFORMANCE_HINT": self.hint.upper(), "INFERENCE_PRECISION_HINT": "f32"}
        if self.threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(self.threads)
        try:
            core = openvino.Core()
            model = core.read_model(graph)
            check_contract(_tensors(model), self.frame_hw, self.map_hw, self.precision, self.bundle.path)
            model.reshape({FRAMES: [1, *self.frame_hw, 3]})
            compiled = core.compile_model(model, _DEVICE, options)
            queue = openvino.AsyncInferQueue(compiled)  # as many requests as the hint asks for
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {openvino.__version__} can't load the {self.precision} graph of {self.bundle.path} "
                f"({one_line(error)}); upgrade openvino or export again"
            ) from error
        self._provider = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
        self._queue = queue

    def _predict(self, frames: Frames) -> Prediction:
        prediction = Prediction(np.empty(len(frames), np.float32), np.empty((len(frames), *self.map_hw), np.float32))

        def keep(request: Any, index: int) -> None:
            prediction.score[index] = request.get_tensor(SCORE).data[0]
            prediction.map[index] = request.get_tensor(MAP).data[0]

        try:
            self._queue.set_callback(keep)
            for index in range(len(frames)):
                self._queue.start_async({FRAMES: frames[index : index + 1]}, index)
            self._queue.wait_all()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on {len(frames)} frame(s) ({one_line(error)})") from error
        return prediction

    def _close(self) -> None:
        self._queue = None


def _tensors(model: Any) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    return {
        port.any_name: (
            _TYPES.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            tuple(size.get_length() if size.is_static else None for size in port.partial_shape),
        )
        for port in (*model.inputs, *model.outputs)
    }


def _import_library() -> Any:
    """OpenVINO without its telemetry, which reports each import unless the user has opted out.

    The telemetry package is hidden during the import; OpenVINO then takes the stub that it has for this case.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # as broken installations raise
        raise EngineUnavailable(
            f"the openvino engine needs the openvino package ({error}); run: pip install 'simplenet-edge[openvino]'"
        ) from error
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
    return openvino
