"""Which engine runs a bundle: by name, or the best one that can run here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.cuda_driver import driver_problem
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.onnxruntime import CUDA_PROVIDER, OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from simplenet_edge.engines.openvino import OpenVinoEngine
from simplenet_edge.engines.tensorrt.cuda_memory import has_adapter
from simplenet_edge.engines.tensorrt.engine import TensorRTEngine, TensorRTRtxEngine
from simplenet_edge.engines.tensorrt.library import Flavour, is_installed
from simplenet_edge.errors import ConfigError, EngineUnavailable

__all__ = [
    "Choice",
    "choose_engine",
    "choose_tensorrt",
    "cpu_engines",
    "engine_names",
    "engine_problem",
    "needs_gpu",
    "open_engine",
    "takes_threads",
]


@dataclass(frozen=True)
class Choice:
    """The name of an engine and, in one sentence, why it was chosen; `threads` as `open_engine` takes them."""

    name: str
    reason: str
    threads: int | None = None


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Engine]
    takes_threads: bool
    absent: Callable[[], str | None]
    """Why it can't run here; None where it can."""


def _no_tensorrt(flavour: Flavour) -> str | None:
    if not is_installed(flavour):
        return "not installed"
    return driver_problem() or (None if has_adapter() else "neither cuda-python nor pycuda is installed")


def _no_cuda_provider() -> str | None:
    if problem := _no_package("onnxruntime") or driver_problem():
        return problem
    import onnxruntime

    return None if CUDA_PROVIDER in onnxruntime.get_available_providers() else f"onnxruntime has no {CUDA_PROVIDER}"


def _no_package(name: str) -> str | None:
    return None if importlib.util.find_spec(name) is not None else "not installed"


_ENGINES = {
    TensorRTEngine.name: _Entry(TensorRTEngine, False, partial(_no_tensorrt, "tensorrt")),
    TensorRTRtxEngine.name: _Entry(TensorRTRtxEngine, False, partial(_no_tensorrt, "tensorrt_rtx")),
    OnnxRuntimeCudaEngine.name: _Entry(OnnxRuntimeCudaEngine, False, _no_cuda_provider),
    OpenVinoEngine.name: _Entry(OpenVinoEngine, True, partial(_no_package, "openvino")),
    OnnxRuntimeEngine.name: _Entry(OnnxRuntimeEngine, True, partial(_no_package, "onnxruntime")),
    FakeEngine.name: _Entry(FakeEngine, False, lambda: None),
}

_ON_GPU = (TensorRTEngine.name, TensorRTRtxEngine.name, OnnxRuntimeCudaEngine.name)
_ON_CPU = {"fp32": (OnnxRuntimeEngine.name, OpenVinoEngine.name)}
_ON_CPU_REDUCED = (OpenVinoEngine.name, OnnxRuntimeEngine.name)
"""Best first. In FP32 the bundle was proven in ONNX Runtime (`benchmarks/fusion.py` has the times of both); in INT8 and
FP16 OpenVINO is ahead (`benchmarks/precision.py`). A line measures instead (`engines/fastest.py`)."""


def engine_names() -> tuple[str, ...]:
    """What `open_engine` accepts."""
    return ("auto", *_ENGINES)


def engine_problem(name: str) -> str | None:
    """Why an engine can't run on this machine; None where it can. Raises KeyError for an unknown name."""
    return _ENGINES[name].absent()


def takes_threads(name: str) -> bool:
    """Whether an engine computes on CPU threads that `open_engine` can set. Raises KeyError for an unknown name."""
    return _ENGINES[name].takes_threads


def needs_gpu(name: str) -> bool:
    """Whether an engine computes on a GPU."""
    return name in _ON_GPU


def cpu_engines(precision: str) -> tuple[str, ...]:
    """The engines that compute a precision on the CPU and can run here, best first."""
    return tuple(name for name in _ON_CPU.get(precision, _ON_CPU_REDUCED) if engine_problem(name) is None)


def choose_engine(engine: str = "auto", precision: str = "fp32") -> Choice:
    """The engine that a name stands for, to run a precision.

    "auto" is the best engine that can run here: its library is installed and, for a GPU, the driver finds one. It is
    never the fake one. Raises ConfigError for an unknown name, EngineUnavailable when "auto" finds none.
    """
    if engine in _ENGINES:
        return Choice(engine, "asked for by name")
    if engine != "auto":
        raise ConfigError(f"no engine is called {engine!r}; known are {', '.join(engine_names())}")
    passed: list[str] = []
    for name in (*_ON_GPU, *_ON_CPU.get(precision, _ON_CPU_REDUCED)):
        problem = engine_problem(name)
        if problem is None:
            better = f" ({'; '.join(passed)})" if passed else ""
            return Choice(name, f"the best for {precision} that can run here{better}")
        passed.append(f"{name}: {problem}")
    raise EngineUnavailable("no engine is installed; run: pip install 'simplenet-edge[ort]'")


def choose_tensorrt(engine: str = "auto") -> type[TensorRTEngine]:
    """The engine that `build` builds for: by name, or the one that is installed. Raises ConfigError."""
    classes: dict[str, type[TensorRTEngine]] = {kind.name: kind for kind in (TensorRTEngine, TensorRTRtxEngine)}
    if engine in classes:
        return classes[engine]
    if engine != "auto":
        raise ConfigError(f"the {engine} engine has nothing to build; --engine is {' or '.join(classes)}, or auto")
    return next((kind for kind in classes.values() if is_installed(kind.flavour)), TensorRTEngine)


def open_engine(bundle: Bundle, engine: str = "auto", precision: str = "fp32", threads: int | None = None) -> Engine:
    """An engine for a bundle, to be entered with `with`; nothing is loaded before that.

    Raises what `choose_engine` raises, and ConfigError for `threads` that the engine can't take.
    """
    name = choose_engine(engine, precision).name
    entry = _ENGINES[name]
    if entry.takes_threads:
        return entry.build(bundle, precision, threads=threads)
    if threads is not None:
        raise ConfigError(f"the {name} engine has no threads to set; leave --threads out")
    return entry.build(bundle, precision)
