"""What the adapters do on a machine without a driver, and how the driver is asked."""

from __future__ import annotations

import ctypes
import inspect
import re
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from simplenet_edge.engines import cuda_driver
from simplenet_edge.engines.cuda_driver import driver_problem, require_driver
from simplenet_edge.engines.tensorrt import cuda_memory
from simplenet_edge.engines.tensorrt.cuda_memory import CudaPython, Device, has_adapter, open_cuda
from simplenet_edge.errors import EngineError, EngineUnavailable

no_driver_here = pytest.mark.skipif(driver_problem() is None, reason="this machine has a usable NVIDIA GPU")


@no_driver_here
def test_no_gpu_says_what_to_do() -> None:
    with pytest.raises(EngineUnavailable, match=r"NVIDIA driver.*JetPack 6.2.*--gpus all.*--engine onnxruntime"):
        open_cuda()


def test_no_driver_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_DRIVER", "libno-such-driver.so.1")
    assert driver_problem() == "no NVIDIA driver: libno-such-driver.so.1 is not found"
    with pytest.raises(EngineUnavailable, match="libno-such-driver"):
        require_driver()


@pytest.mark.parametrize(
    ("init", "count", "problem"),
    [
        (0, 1, None),
        (0, 0, "the NVIDIA driver finds no GPU"),
        (100, 0, "the NVIDIA driver doesn't start (cuInit gave 100)"),
    ],
)
def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, init: int, count: int, problem: str | None) -> None:
    def get_count(pointer: object) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = count  # type: ignore[arg-type]
        return 0

    driver = SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=get_count)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert driver_problem() == problem


@no_driver_here
def test_cuda_python_without_a_driver_gives_cudas_words() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    with pytest.raises(EngineError, match=r"CUDA failed: cudaError\w+, .*; run: simplenet-edge doctor"):
        CudaPython()


@no_driver_here
def test_every_call_of_cuda_python_is_accepted_by_the_real_bindings() -> None:
    """Without a driver each call fails with CUDA's error, and not with one about its name or its arguments."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    adapter = object.__new__(CudaPython)
    adapter._runtime, adapter._free, adapter._graph = runtime, [], runtime.cudaGraphExec_t(0)
    adapter._stream, adapter._events = runtime.cudaStream_t(0), [runtime.cudaEvent_t(0)] * 2
    array = np.zeros(4, np.float32)
    calls: list[Callable[[], object]] = [
        lambda: adapter.host_array((2, 3), np.float32),
        lambda: adapter.device_buffer(16),
        lambda: adapter.to_device(4096, array),
        lambda: adapter.to_host(array, 4096),
        adapter.synchronize,
        lambda: adapter.capture(lambda: None),
        lambda: adapter.timed(lambda: None),
        lambda: adapter._destroy_event(adapter._events[0]),
        adapter._drop_graph,
        adapter.active().__enter__,
    ]
    for call in calls:
        with pytest.raises(EngineError, match="CUDA failed: cudaError"):
            call()
    later = (
        runtime.cudaGraphInstantiate(runtime.cudaGraph_t(0), 0),
        runtime.cudaGraphDestroy(runtime.cudaGraph_t(0)),
        runtime.cudaGraphLaunch(runtime.cudaGraphExec_t(0), adapter._stream),
        runtime.cudaEventElapsedTime(*adapter._events),
        runtime.cudaFree(4096),
        runtime.cudaFreeHost(4096),
        runtime.cudaStreamDestroy(adapter._stream),
    )
    assert all(status != runtime.cudaError_t.cudaSuccess for status, *_ in later)


class _PyCudaDriver(ModuleType):
    """What the adapter uses of `pycuda.driver`, in host memory, counting how deep contexts are pushed."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.depth, self.freed, self.detached = 0, 0, False
        self.pagelocked_empty = np.empty
        self.init = lambda: None
        self.Context = SimpleNamespace(pop=lambda: self._push(-1))
        self.Device = lambda index: SimpleNamespace(
            name=lambda: "Orin",
            compute_capability=lambda: (8, 7),
            retain_primary_context=lambda: SimpleNamespace(push=lambda: self._push(1), detach=self._detach),
        )
        self.Stream = lambda: SimpleNamespace(handle=42, synchronize=lambda: None)
        self.Event = lambda: SimpleNamespace(record=lambda stream: None, time_till=lambda end: 2.5)
        self.copied: list[tuple[int, int, int]] = []

    def memcpy_htod_async(self, address: int, array: npt.NDArray[Any], stream: Any) -> None:
        self.copied.append((address, array.nbytes, stream.handle))

    def memcpy_dtoh_async(self, array: npt.NDArray[Any], address: int, stream: Any) -> None:
        self.copied.append((address, array.nbytes, stream.handle))

    def _push(self, by: int) -> None:
        self.depth += by

    def _detach(self) -> None:
        assert self.depth == 0
        self.detached = True

    def mem_alloc(self, nbytes: int) -> object:
        assert self.depth == 1
        driver = self

        class Allocation:
            def __int__(self) -> int:
                return 4096

            def free(self) -> None:
                assert driver.depth == 1
                driver.freed += 1

        return Allocation()


def test_pycuda_is_taken_where_cuda_python_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried on a stand-in: pycuda needs a compiler and a driver to be installed."""
    driver = _PyCudaDriver()
    monkeypatch.setattr(cuda_memory, "require_driver", lambda: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    memory = open_cuda()
    assert (memory.name, memory.device, memory.stream) == ("pycuda", Device("Orin", "8.7"), 42)
    with memory.active():
        address = memory.device_buffer(16)
        array = memory.host_array((4,), np.float32)

        def there_and_back() -> None:
            memory.to_device(address, array)
            memory.to_host(array, address)

        elapsed_ms = memory.timed(there_and_back)
        memory.synchronize()
        assert elapsed_ms() == 2.5
        with pytest.raises(EngineError, match="records no CUDA graphs; install cuda-python"):
            memory.capture(lambda: None)
    assert driver.copied == [(4096, 16, 42)] * 2
    with pytest.raises(EngineError, match="CUDA failed: out of memory"), memory.active():
        raise driver.Error("out of\nmemory")
    memory.close()
    assert (driver.depth, driver.freed, driver.detached) == (0, 1, True)


def test_no_adapter_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_memory, "require_driver", lambda: None)
    for package in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "pycuda"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailable, match="run: pip install cuda-python"):
        open_cuda()
    assert not has_adapter()


def test_every_cuda_call_of_the_adapter_exists() -> None:
    """The names are looked up at run time only; on a device is too late to find one missing."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    used = set(re.findall(r"runtime\.(cuda\w+(?:\.cuda\w+)?)", inspect.getsource(CudaPython)))
    assert len(used) > 15
    for name in used:
        where = runtime
        for part in name.split("."):
            where = getattr(where, part)
