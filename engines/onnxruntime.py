"""ONNX Runtime, on the CPU or on an NVIDIA GPU.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out, in arrays of their own.
INT8 graphs are computed as they stand, in float: OpenVINO is what makes them fast on a CPU.
The library is imported when an engine opens, never when this module does. What has run on which hardware:
docs/hardware-status.md.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, ClassVar

from simplenet_edge.bundle import Bundle
from simplenet_edge.contract import FRAMES, MAP, SCORE, check_contract, one_line
from simplenet_edge.engines.base import Engine, check_threads
from simplenet_edge.engines.cuda_driver import require_driver
from simplenet_edge.errors import EngineError, EngineUnavailable
from simplenet_edge.spec import Frames, Prediction

__all__ = [
    "CPU_PROVIDER",
    "CUDA_PROVIDER",
    "OnnxRuntimeCudaEngine",
    "OnnxRuntimeEngine",
    "cpu_session",
    "session_options",
]

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # ONNX Runtime's log severity: 0 verbose .. 4 fatal
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntimeEngine(Engine):
    """Runs the ONNX graph as it is; needs no build step.

    `threads` is the number of threads one operator may use; None leaves it to ONNX Runtime (one a physical core).
    """

    name: ClassVar[str] = "onnxruntime"
    _extra: ClassVar[str] = "ort"

    def __init__(self, bundle: Bundle, precision: str = "fp32", threads: int | None = None) -> None:
        super().__init__(bundle, precision)
        check_threads(threads)
        self.threads = threads
        self._session: Any = None

    @property
    def provider(self) -> str:
        """ONNX Runtime's execution provider. Raises EngineError before the engine is open."""
        if self._session is None:
            raise EngineError("the engine is not open, so it has no provider yet; use it inside `with engine:`")
        return str(self._session.get_providers()[0])

    def _open(self) -> None:
        onnxruntime = _import_library(self._extra)
        providers = self._providers(onnxruntime)
        graph = self.bundle.graph(self.precision)
        options = session_options(onnxruntime)
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # its own classes share no base but Exception
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} can't load the {self.precision} graph of {self.bundle.path} "
                f"({one_line(error)}); upgrade onnxruntime or export again"
            ) from error
        found = {
            node.name: (
                _TYPES.get(node.type, node.type),
                tuple(size if isinstance(size, int) else None for size in node.shape),
            )
            for node in (*session.get_inputs(), *session.get_outputs())
        }
        check_contract(found, self.frame_hw, self.map_hw, self.precision, self.bundle.path)
        _require_provider(providers[0][0], session.get_providers())
        self._session = session

    def _providers(self, onnxruntime: Any) -> list[tuple[str, dict[str, str]]]:
        return [(CPU_PROVIDER, {})]

    def _predict(self, frames: Frames) -> Prediction:
        try:
            score, anomaly_map = self._session.run([SCORE, MAP], {FRAMES: frames})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on {len(frames)} frame(s) ({one_line(error)})") from error
        return Prediction(score, anomaly_map)

    def _close(self) -> None:
        self._session = None


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """Runs the ONNX graph on an NVIDIA GPU through ONNX Runtime's CUDA provider, in true FP32 (no TF32)."""

    name: ClassVar[str] = "onnxruntime-cuda"
    _extra: ClassVar[str] = "gpu"

    def __init__(self, bundle: Bundle, precision: str = "fp32") -> None:
        super().__init__(bundle, precision)

    def _providers(self, onnxruntime: Any) -> list[tuple[str, dict[str, str]]]:
        if CUDA_PROVIDER not in onnxruntime.get_available_providers():
            raise EngineUnavailable(
                f"onnxruntime {onnxruntime.__version__} has no {CUDA_PROVIDER}, it has "
                f"{', '.join(onnxruntime.get_available_providers())}; run: pip uninstall onnxruntime; "
                "pip install 'simplenet-edge[gpu]'"
            )
        require_driver()
        if hasattr(onnxruntime, "preload_dlls"):  # finds the CUDA and cuDNN libraries that pip installed
            with contextlib.redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
        return [(CUDA_PROVIDER, {"use_tf32": "0"}), (CPU_PROVIDER, {})]


def cpu_session(graph: bytes, threads: int | None = None) -> Any:
    """A session on the CPU with the engine's options, outside of any engine. Raises EngineUnavailable."""
    onnxruntime = _import_library("ort")
    options = session_options(onnxruntime)
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=[CPU_PROVIDER])


def session_options(onnxruntime: Any) -> Any:
    """Options of a session that logs errors only and computes Q/DQ pairs as they stand, in float32.

    Its own 8-bit kernels round biases, saturate on older processors, and are no faster with these graphs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _require_provider(asked: str, used: list[str]) -> None:
    if used[0] != asked:  # it falls back to the CPU with no more than a line in its log
        raise EngineError(
            f"asked ONNX Runtime for {asked}, it uses {', '.join(used)}: its CUDA or cuDNN libraries don't load; "
            "install the CUDA and cuDNN versions that this onnxruntime-gpu was built for, or use --engine onnxruntime"
        )


def _import_library(extra: str) -> Any:
    try:
        import onnxruntime
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # as broken installations raise
        raise EngineUnavailable(
            f"the onnxruntime engine needs the onnxruntime package ({error}); "
            f"run: pip install 'simplenet-edge[{extra}]'"
        ) from error
    return onnxruntime
