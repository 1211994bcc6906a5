"""A GPU and a TensorRT made of host memory and ONNX Runtime: what the executor and the engine are tested on.

It keeps the rules that TensorRT sets: work is queued and runs at `synchronize`, addresses are set before it runs,
shapes stay within the profile, a graph replays the addresses and the shape that it was recorded with and is void once
the shape changes. A plan is the graph behind a header that carries a version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from simplenet_edge.engines.tensorrt import engine as tensorrt
from simplenet_edge.engines.tensorrt import provision
from simplenet_edge.engines.tensorrt.builder import BuildConfig, BuiltPlan
from simplenet_edge.engines.tensorrt.cuda_memory import CudaMemory, Device
from simplenet_edge.engines.tensorrt.library import Flavour, TensorRTLibrary
from simplenet_edge.errors import EngineError
from simplenet_edge.spec import Frames
from tests.bundles import predict

STREAM = 7
VERSION = "10.3.0"


class HostMemory(CudaMemory):
    """Device memory that is host memory; the queue runs when it is waited for."""

    name: ClassVar[str] = "simulated"

    def __init__(self, can_capture: bool = True, device: Device | None = None) -> None:
        self._device = device or Device("Orin", "8.7")
        self._can_capture = can_capture
        self._keep: list[npt.NDArray[Any]] = []
        self.queue: list[Callable[[], object]] = []
        self.recorded = self.replayed = 0
        self.closed = False

    @property
    def device(self) -> Device:
        return self._device

    @property
    def stream(self) -> int:
        return STREAM

    def host_array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        array = np.full(shape, 99, dtype)
        self._keep.append(array)
        return array

    def device_buffer(self, nbytes: int) -> int:
        array = np.full(nbytes, 99, np.uint8)
        self._keep.append(array)
        return int(array.ctypes.data)

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        self.queue.append(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        assert array.flags.c_contiguous
        self.queue.append(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def synchronize(self) -> None:
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        assert not self.queue
        if not self._can_capture:
            raise EngineError("this stream can't be recorded")
        work()
        recorded, self.queue = self.queue, []
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            self.queue += recorded

        return replay

    def timed(self, work: Callable[[], None]) -> Callable[[], float]:
        work()
        return lambda: 1.5

    def close(self) -> None:
        assert not self.queue
        self._keep.clear()
        self.closed = True


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] | None = None

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name not in self._addresses, "addresses are set once"
        self._addresses[name] = address
        return name in ("frames", "score", "map")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "frames" and 1 <= shape[0] <= self._engine.max_batch

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        assert self.shape is not None
        shape = self.shape
        self._engine.memory.queue.append(lambda: self._execute(shape))
        return True

    def _execute(self, shape: tuple[int, ...]) -> None:
        assert shape == self.shape, "a graph is void once the shape of its context has changed"
        frames: Frames = np.ctypeslib.as_array(_at(self._addresses["frames"], ctypes.c_uint8, shape))
        for name, array in predict(self._engine.graph, frames)._asdict().items():
            target = np.ctypeslib.as_array(_at(self._addresses[name], ctypes.c_float, array.shape))
            target[:] = array


def _at(address: int, kind: Any, shape: tuple[int, ...]) -> Any:
    for size in reversed(shape):
        kind = kind * size
    return kind.from_address(address)


class _Engine:
    def __init__(self, graph: bytes, max_batch: int, memory: HostMemory) -> None:
        self.graph, self.max_batch, self.memory = graph, max_batch, memory

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(1,), (1,), (self.max_batch,)]

    def create_execution_context(self, config: Any = None) -> _Context:
        return _Context(self)

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(create_runtime_cache=_RuntimeCache, set_runtime_cache=lambda cache: None)


class _RuntimeCache:
    def __init__(self) -> None:
        self._content = b"new"

    def deserialize(self, content: bytes) -> None:
        self._content = content + b"+"

    def serialize(self) -> bytes:
        return self._content


class _Log:
    INTERNAL_ERROR, ERROR, WARNING = range(3)

    def log(self, severity: int, text: str) -> None:
        raise NotImplementedError


def simulated_library(
    memory: Callable[[], HostMemory], version: str = VERSION, flavour: Flavour = "tensorrt"
) -> TensorRTLibrary:
    """A TensorRT that takes the plans of `simulated_plan` of its own version."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            built_with, max_batch, graph = plan.split(b"|", 2)
            if built_with != version.encode():
                self._log.log(_Log.ERROR, f"The engine plan is of version {built_with.decode()},\n expected {version}")
                return None
            return _Engine(graph, int(max_batch), memory())

    return TensorRTLibrary(flavour, SimpleNamespace(Runtime=Runtime, ILogger=_Log), version)


def simulated_plan(graph: bytes, max_batch: int = 4, version: str = VERSION) -> bytes:
    return b"|".join((version.encode(), str(max_batch).encode(), graph))


def simulated_build(library: TensorRTLibrary, bundle: Any, precision: str, config: BuildConfig, **_: Any) -> BuiltPlan:
    """Stands for `build_plan`, whose real recipe is tested on TensorRT for RTX."""
    plan = simulated_plan(bundle.graph(precision), config.profile.max_batch, library.version)
    return BuiltPlan(plan, b"timings", 0.5, ())


def install_simulation(
    monkeypatch: pytest.MonkeyPatch, version: str = VERSION, device: Device | None = None, can_capture: bool = True
) -> list[HostMemory]:
    """Put a simulated GPU with a TensorRT of `version` into this machine; gives the memories that are opened on it."""
    opened: list[HostMemory] = []

    def open_memory() -> HostMemory:
        opened.append(HostMemory(can_capture, device))
        return opened[-1]

    def load(flavour: Flavour) -> TensorRTLibrary:
        return simulated_library(lambda: opened[-1], version, flavour)

    monkeypatch.setattr(tensorrt, "open_cuda", open_memory)
    monkeypatch.setattr(tensorrt, "load_library", load)
    monkeypatch.setattr(provision, "build_plan", simulated_build)
    return opened
