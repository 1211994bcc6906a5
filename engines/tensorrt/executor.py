"""A deserialised plan with its buffers: frames in page-locked memory -> scores and maps in page-locked memory.

All buffers are made once, for the largest batch of the plan, and their addresses are set once. Everything runs on the
one stream of a `CudaMemory`. TensorRT's work at one batch size is recorded as a CUDA graph and replayed; TensorRT for
RTX does the like by itself. The library and the memory are passed in, so all but CUDA's own calls is tested without a
GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simplenet_edge.contract import FRAMES, MAP, SCORE
from simplenet_edge.engines.tensorrt.cuda_memory import CudaMemory
from simplenet_edge.engines.tensorrt.library import TensorRTLibrary
from simplenet_edge.errors import EngineError
from simplenet_edge.files import write_bytes
from simplenet_edge.spec import Frames, Prediction

__all__ = ["PlanRefused", "TensorRTExecutor"]

_log = logging.getLogger(__name__)


class PlanRefused(EngineError):
    """TensorRT does not take the plan; building it again helps."""


class TensorRTExecutor:
    """Runs one plan. `runtime_cache` is a file for the kernels that TensorRT for RTX compiles on the device.

    Raises PlanRefused from the constructor where TensorRT does not take the plan; EngineError where CUDA fails.
    """

    def __init__(
        self,
        library: TensorRTLibrary,
        cuda: CudaMemory,
        plan: bytes,
        frame_hw: tuple[int, int],
        map_hw: tuple[int, int],
        runtime_cache: Path | None = None,
    ) -> None:
        self._library, self._cuda, self._runtime_cache = library, cuda, runtime_cache
        self._log = library.new_log()
        self.gpu_ms: float | None = None
        with cuda.active():
            self._runtime = library.module.Runtime(self._log)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise PlanRefused(f"{library.flavour} {library.version} refuses the plan ({self._said()})")
            self.max_batch = int(self._engine.get_tensor_profile_shape(FRAMES, 0)[2][0])
            self._cache: Any = None
            self._context = self._new_context()
            if self._context is None:
                raise EngineError(f"{library.flavour} gives no execution context ({self._said()}); free GPU memory")
            self._make_buffers(frame_hw, map_hw)
            self._batch = 0
            self._graph: Callable[[], None] | None = None
            self._may_capture = not library.is_rtx
            self._warm_up()

    def _said(self) -> str:
        return "; ".join(self._log.errors[-3:]) or "it gave no reason"

    def _new_context(self) -> Any:
        if not self._library.is_rtx:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        strategies = getattr(self._library.module, "CudaGraphStrategy", None)  # since TensorRT for RTX 1.2
        if strategies is not None:
            config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
        self._cache = config.create_runtime_cache()
        if self._runtime_cache is not None and self._runtime_cache.is_file():
            self._cache.deserialize(self._runtime_cache.read_bytes())  # one that does not fit is replaced at close
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _make_buffers(self, frame_hw: tuple[int, int], map_hw: tuple[int, int]) -> None:
        self._host = {
            FRAMES: self._cuda.host_array((self.max_batch, *frame_hw, 3), np.uint8),
            SCORE: self._cuda.host_array((self.max_batch,), np.float32),
            MAP: self._cuda.host_array((self.max_batch, *map_hw), np.float32),
        }
        self._address = {name: self._cuda.device_buffer(array.nbytes) for name, array in self._host.items()}
        for name, address in self._address.items():
            self._must(self._context.set_tensor_address(name, address), f"the address of {name}")

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self._library.flavour} refuses {what} ({self._said()}); build the engine again")

    def _warm_up(self) -> None:
        self._host[FRAMES][:] = 0
        self._run(1)
        self._run(1)  # the second call at a size records the graph

    def predict(self, frames: Frames) -> Prediction:
        """Scores and maps of frames uint8 `(B, H, W, 3)`, in new arrays; batches above the largest are split."""
        parts = [self._predict(frames[i : i + self.max_batch]) for i in range(0, len(frames), self.max_batch)]
        if len(parts) == 1:
            return parts[0]
        return Prediction(np.concatenate([part.score for part in parts]), np.concatenate([part.map for part in parts]))

    def _predict(self, frames: Frames) -> Prediction:
        batch = len(frames)
        with self._cuda.active():
            self._host[FRAMES][:batch] = frames
            self._run(batch)
        return Prediction(self._host[SCORE][:batch].copy(), self._host[MAP][:batch].copy())

    def _run(self, batch: int) -> None:
        """One call, waited for. The first at a batch size runs plainly, as TensorRT asks; the second records."""
        if batch != self._batch:
            self._graph = None  # a graph is void once the context's shapes change
            shape = (batch, *self._host[FRAMES].shape[1:])
            self._must(self._context.set_input_shape(FRAMES, shape), f"frames of shape {shape}")
            self._batch = batch
            work = self._enqueue
        else:
            if self._graph is None and self._may_capture:
                self._capture()
            work = self._graph or self._enqueue
        elapsed_ms = self._cuda.timed(work)
        self._cuda.synchronize()
        self.gpu_ms = elapsed_ms()

    def _enqueue(self) -> None:
        batch, cuda = self._batch, self._cuda
        cuda.to_device(self._address[FRAMES], self._host[FRAMES][:batch])
        self._must(self._context.execute_async_v3(cuda.stream), "to run")
        for name in (SCORE, MAP):
            cuda.to_host(self._host[name][:batch], self._address[name])

    def _capture(self) -> None:
        try:
            self._graph = self._cuda.capture(self._enqueue)
        except EngineError as error:
            self._may_capture = False
            _log.warning("no CUDA graph, each call is queued anew (%s)", error)

    def close(self) -> None:
        """Keep the runtime cache, drop TensorRT's objects. The memory is closed by who opened it."""
        with self._cuda.active():
            if self._cache is not None and self._runtime_cache is not None:
                try:
                    write_bytes(self._runtime_cache, bytes(self._cache.serialize()))
                except OSError as error:
                    _log.warning("the runtime cache is not kept (%s); the next start compiles again", error)
            self._graph = self._context = self._cache = self._engine = self._runtime = None
