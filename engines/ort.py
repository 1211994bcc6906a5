"""ONNX Runtime on the CPU.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out, in arrays of their own.
The library is imported when an engine opens, never when this module does.
"""

from __future__ import annotations

from typing import Any, ClassVar

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable
from simplenet_edge.spec import Frames, Prediction

__all__ = ["OnnxRuntimeEngine"]

_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # ONNX Runtime's log severity: 0 verbose .. 4 fatal

_Tensor = tuple[str, list[int | None]]
"""ONNX Runtime's name of a type, and the size of each axis; None where it is free."""


class OnnxRuntimeEngine(Engine):
    """Runs the ONNX graph as it is; needs no build step.

    `threads` is the number of threads one operator may use; None leaves it to ONNX Runtime (one a physical core).
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, bundle: Bundle, precision: str = "fp32", threads: int | None = None) -> None:
        super().__init__(bundle, precision)
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, not {threads}")
        self.threads = threads
        self._session: Any = None

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider. Raises EngineError before the engine is open."""
        if self._session is None:
            raise EngineError("the engine is not open, so it has no provider yet; use it inside `with engine:`")
        return str(self._session.get_providers()[0])

    def _open(self) -> None:
        onnxruntime = _import_library()
        graph = self.bundle.graph(self.precision)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=[_PROVIDER])
        except Exception as error:  # its own classes share no base but Exception
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} can't load the {self.precision} graph of {self.bundle.path} "
                f"({_one_line(error)}); upgrade onnxruntime or export again"
            ) from error
        self._check_contract(session)
        self._session = session

    def _check_contract(self, session: Any) -> None:
        height, width = self.size_hw
        expected: dict[str, _Tensor] = {
            "frames": ("tensor(uint8)", [None, height, width, 3]),
            "score": ("tensor(float)", [None]),
            "map": ("tensor(float)", [None, height, width]),
        }
        found = {
            node.name: (node.type, [size if isinstance(size, int) else None for size in node.shape])
            for node in (*session.get_inputs(), *session.get_outputs())
        }
        if found != expected:
            raise EngineError(
                f"the {self.precision} graph of {self.bundle.path} breaks the contract: "
                f"expected {_signature(expected)}; found {_signature(found)}; export again"
            )
        if session.get_providers()[0] != _PROVIDER:
            raise EngineError(f"asked ONNX Runtime for {_PROVIDER}, it uses {', '.join(session.get_providers())}")

    def _predict(self, frames: Frames) -> Prediction:
        try:
            score, anomaly_map = self._session.run(["score", "map"], {"frames": frames})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on {len(frames)} frame(s) ({_one_line(error)})") from error
        return Prediction(score, anomaly_map)

    def _close(self) -> None:
        self._session = None


def _import_library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(
            f"the onnxruntime engine needs the onnxruntime package ({error}); run: pip install 'simplenet-edge[ort]'"
        ) from error
    return onnxruntime


def _signature(tensors: dict[str, _Tensor]) -> str:
    return ", ".join(
        f"{name} {kind}({', '.join('B' if size is None else str(size) for size in shape)})"
        for name, (kind, shape) in tensors.items()
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
