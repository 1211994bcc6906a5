"""Memory, one stream and CUDA graphs of one NVIDIA GPU, behind one contract with two adapters.

Addresses are device pointers as int, host arrays are page-locked NumPy arrays, times are milliseconds. Copies and
launches are queued on the one stream; nothing is read or overwritten safely before `synchronize`.

Adapters: `cuda-python` (package cuda-python, what NVIDIA's samples use) and `pycuda`. Both share the primary context
of the device with TensorRT. What has run on which hardware: docs/hardware-status.md.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from simplenet_edge.contract import one_line
from simplenet_edge.engines.cuda_driver import require_driver
from simplenet_edge.errors import EngineError, EngineUnavailable

__all__ = [
    "CudaMemory",
    "CudaPython",
    "Device",
    "PyCuda",
    "has_adapter",
    "open_cuda",
]

_DEVICE_INDEX = 0  # the first that CUDA_VISIBLE_DEVICES leaves


@dataclass(frozen=True)
class Device:
    """A GPU: its name, and its compute capability such as "8.7"."""

    name: str
    capability: str


class CudaMemory(ABC):
    """Page-locked and device buffers, a stream, events and graphs. Everything is given back by `close`."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def device(self) -> Device:
        """The GPU in use."""

    @property
    @abstractmethod
    def stream(self) -> int:
        """The handle of the stream, which is not the default one."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device current in this thread; every other call belongs inside."""
        yield

    @abstractmethod
    def host_array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A page-locked array; it dies with `close`."""

    @abstractmethod
    def device_buffer(self, nbytes: int) -> int:
        """The address of new device memory."""

    @abstractmethod
    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy of a page-locked, contiguous array to the device."""

    @abstractmethod
    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        """Queue a copy from the device into a page-locked, contiguous array."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was queued is done."""

    @abstractmethod
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` queues, without running it; calling the result queues it again in one launch.

        One graph at a time: recording the next one gives the last one back. Raises EngineError where it can't be
        recorded; the stream can be used on.
        """

    @abstractmethod
    def timed(self, work: Callable[[], None]) -> Callable[[], float]:
        """Queue `work` between two events; after `synchronize` the result gives the time on the GPU in ms."""

    @abstractmethod
    def close(self) -> None:
        """Give back all memory and the stream."""


class CudaPython(CudaMemory):
    """Through `cuda.bindings.runtime` of the package cuda-python."""

    name: ClassVar[str] = "cuda-python"

    def __init__(self) -> None:
        runtime: Any = importlib.import_module("cuda.bindings.runtime")
        self._runtime = runtime
        self._graph: Any = None
        self._free: list[Callable[[], None]] = []
        self._check(runtime.cudaSetDevice(_DEVICE_INDEX))
        properties = self._check(runtime.cudaGetDeviceProperties(_DEVICE_INDEX))
        self._device = Device(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}")
        self._stream = self._check(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self._free.append(lambda: self._check(runtime.cudaStreamDestroy(self._stream)))
        self._events = [self._check(runtime.cudaEventCreate()) for _ in range(2)]
        self._free += [partial(self._destroy_event, event) for event in self._events]

    def _destroy_event(self, event: Any) -> None:
        self._check(self._runtime.cudaEventDestroy(event))

    def _check(self, result: tuple[Any, ...]) -> Any:
        """The value that comes after the error code of every call."""
        status, *values = result
        if status != self._runtime.cudaError_t.cudaSuccess:
            text = self._runtime.cudaGetErrorString(status)[1].decode()
            raise EngineError(f"CUDA failed: {status.name}, {text}; run: simplenet-edge doctor")
        return values[0] if values else None

    @property
    def device(self) -> Device:
        """The GPU in use."""
        return self._device

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the device current in this thread."""
        self._check(self._runtime.cudaSetDevice(_DEVICE_INDEX))
        yield

    def host_array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A page-locked array."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._check(self._runtime.cudaMallocHost(nbytes)))
        self._free.append(lambda: self._check(self._runtime.cudaFreeHost(address)))
        locked = memoryview((ctypes.c_byte * nbytes).from_address(address))
        return np.frombuffer(locked, np.uint8).view(dtype).reshape(shape)

    def device_buffer(self, nbytes: int) -> int:
        """The address of new device memory."""
        address = int(self._check(self._runtime.cudaMalloc(nbytes)))
        self._free.append(lambda: self._check(self._runtime.cudaFree(address)))
        return address

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._check(self._runtime.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._stream))

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        """Queue a copy from the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._check(self._runtime.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._stream))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._check(self._runtime.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` queues."""
        runtime = self._runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(runtime.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            runtime.cudaStreamEndCapture(self._stream)  # leaves capture mode; the graph is not valid
            raise
        recorded = self._check(runtime.cudaStreamEndCapture(self._stream))
        self._drop_graph()
        self._graph = launchable = self._check(runtime.cudaGraphInstantiate(recorded, 0))
        self._check(runtime.cudaGraphDestroy(recorded))
        return lambda: self._check(runtime.cudaGraphLaunch(launchable, self._stream))

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            self._check(self._runtime.cudaGraphExecDestroy(graph))

    def timed(self, work: Callable[[], None]) -> Callable[[], float]:
        """Queue `work` between two events."""
        start, end = self._events
        self._check(self._runtime.cudaEventRecord(start, self._stream))
        work()
        self._check(self._runtime.cudaEventRecord(end, self._stream))
        return lambda: float(self._check(self._runtime.cudaEventElapsedTime(start, end)))

    def close(self) -> None:
        """Give everything back, the newest first."""
        self._drop_graph()
        while self._free:
            self._free.pop()()


class PyCuda(CudaMemory):
    """Through the package pycuda, for devices where it is there already."""

    name: ClassVar[str] = "pycuda"

    def __init__(self) -> None:
        driver: Any = importlib.import_module("pycuda.driver")
        self._driver = driver
        driver.init()
        device = driver.Device(_DEVICE_INDEX)
        self._context = device.retain_primary_context()
        self._device = Device(device.name(), "{}.{}".format(*device.compute_capability()))
        self._buffers: list[Any] = []
        with self.active():
            self._stream = driver.Stream()
            self._events = (driver.Event(), driver.Event())

    @property
    def device(self) -> Device:
        """The GPU in use."""
        return self._device

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Push the primary context, and pop it afterwards; CUDA's errors become EngineError."""
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise EngineError(f"CUDA failed: {one_line(error)}; run: simplenet-edge doctor") from error
        finally:
            self._driver.Context.pop()

    def host_array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A page-locked array."""
        array: npt.NDArray[Any] = self._driver.pagelocked_empty(shape, dtype)
        return array

    def device_buffer(self, nbytes: int) -> int:
        """The address of new device memory."""
        self._buffers.append(self._driver.mem_alloc(nbytes))
        return int(self._buffers[-1])

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the device."""
        self._driver.memcpy_htod_async(address, array, self._stream)

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        """Queue a copy from the device."""
        self._driver.memcpy_dtoh_async(array, address, self._stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Always EngineError: graphs are for the cuda-python adapter."""
        raise EngineError("the pycuda adapter records no CUDA graphs; install cuda-python for them")

    def timed(self, work: Callable[[], None]) -> Callable[[], float]:
        """Queue `work` between two events."""
        start, end = self._events
        start.record(self._stream)
        work()
        end.record(self._stream)
        return lambda: float(start.time_till(end))

    def close(self) -> None:
        """Give everything back."""
        with self.active():
            while self._buffers:
                self._buffers.pop().free()
            del self._events, self._stream
        self._context.detach()


_ADAPTERS: tuple[type[CudaMemory], ...] = (CudaPython, PyCuda)


def has_adapter() -> bool:
    """Whether cuda-python or pycuda is installed; neither is imported."""
    if importlib.util.find_spec("pycuda") is not None:
        return True
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # not even the namespace package `cuda`
        return False


def open_cuda() -> CudaMemory:
    """The first adapter whose package is installed. Raises EngineUnavailable without a GPU or without any package."""
    require_driver()
    for adapter in _ADAPTERS:
        try:
            return adapter()
        except ImportError:
            continue
    raise EngineUnavailable("GPU memory needs cuda-python or pycuda; run: pip install cuda-python")
