"""TensorRT and TensorRT for RTX: the fast way on NVIDIA GPUs.

Frames uint8 `(B, H, W, 3)` BGR in; score float32 `(B,)` and map float32 `(B, H, W)` out, in arrays of their own.
An engine takes nothing on the GPU before it opens. It then finds the plan that fits this device, or builds one, which
takes minutes and shows progress. Replay the golden frames after a build (`simplenet_edge.engines.verify`): two builds
of one graph need not give the same plan.

What has run on which hardware: docs/hardware-status.md.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig
from simplenet_edge.engines.tensorrt.cuda_memory import CudaMemory, open_cuda
from simplenet_edge.engines.tensorrt.executor import PlanRefused, TensorRTExecutor
from simplenet_edge.engines.tensorrt.library import Flavour, load_library
from simplenet_edge.engines.tensorrt.plan_store import StoredPlan
from simplenet_edge.engines.tensorrt.provision import obtain_plan, require_stored_plan
from simplenet_edge.errors import EngineError
from simplenet_edge.progress import Progress
from simplenet_edge.spec import Frames, Prediction

__all__ = ["TensorRTEngine", "TensorRTRtxEngine", "find_plan"]

_log = logging.getLogger(__name__)


class TensorRTEngine(Engine):
    """Runs the plan of a bundle's graph on the first NVIDIA GPU.

    `profile`: the batch sizes a plan must be built for; None takes any. `config` is for a build, `cache` another place
    for plans than the bundle, `rebuild` ignores a stored plan, `progress` hears of a build.
    """

    name: ClassVar[str] = "tensorrt"
    flavour: ClassVar[Flavour] = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "fp32",
        profile: BatchProfile | None = None,
        *,
        config: BuildConfig | None = None,
        cache: Path | None = None,
        rebuild: bool = False,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(bundle, precision)
        self.plan: StoredPlan | None = None
        self._profile, self._config, self._cache = profile, config, cache
        self._rebuild, self._progress = rebuild, progress
        self._cuda: CudaMemory | None = None
        self._executor: TensorRTExecutor | None = None

    @property
    def provider(self) -> str:
        """TensorRT's version and the GPU. Raises EngineError before the engine is open."""
        plan, cuda = self.require_plan(), self._cuda
        assert cuda is not None
        return f"{self.flavour} {plan.key.version} on {cuda.device.name}"

    def require_plan(self) -> StoredPlan:
        """The plan that runs. Raises EngineError before the engine is open."""
        if self._cuda is None or self.plan is None:
            raise EngineError("the engine is not open, so it has no plan yet; use it inside `with engine:`")
        return self.plan

    @property
    def gpu_ms(self) -> float | None:
        """Time on the GPU of the last call in ms, copies included; of its last part where it was split."""
        return self._executor.gpu_ms if self._executor else None

    def _open(self) -> None:
        library = load_library(self.flavour)
        self._cuda = open_cuda()
        try:
            for rebuild in dict.fromkeys((self._rebuild, True)):
                self.plan = obtain_plan(
                    library,
                    self._cuda.device,
                    self.bundle,
                    self.precision,
                    profile=self._profile,
                    config=self._config,
                    cache=self._cache,
                    rebuild=rebuild,
                    progress=self._progress,
                )
                try:
                    self._executor = TensorRTExecutor(
                        library, self._cuda, self.plan.read(), self.frame_hw, self.map_hw, self.plan.runtime_cache
                    )
                    return
                except PlanRefused as error:
                    refusal = EngineError(f"{error}; the plan {self.plan.path} was built here; report this")
                    if rebuild:
                        raise refusal from error
                    _log.warning("%s: %s; building again", self.plan.path.name, error)
        except BaseException:
            self._release()
            raise

    def _predict(self, frames: Frames) -> Prediction:
        assert self._executor is not None
        return self._executor.predict(frames)

    def _close(self) -> None:
        if self._executor is not None:
            self._executor.close()
        self._release()

    def _release(self) -> None:
        self._executor = None
        if self._cuda is not None:
            self._cuda.close()
        self._cuda = None


class TensorRTRtxEngine(TensorRTEngine):
    """The same with TensorRT for RTX, for which plans can be built elsewhere (`build --target rtx:8.6,8.9`)."""

    name: ClassVar[str] = "tensorrt_rtx"
    flavour: ClassVar[Flavour] = "tensorrt_rtx"


def find_plan(bundle: Bundle, precision: str) -> StoredPlan:
    """The plan of TensorRT, stored by an earlier build, that the GPU of this device runs.

    Raises EngineUnavailable without TensorRT or a GPU, EngineError where there is no such plan.
    """
    library = load_library(TensorRTEngine.flavour)
    cuda = open_cuda()
    try:
        return require_stored_plan(library, cuda.device, bundle, precision)
    finally:
        cuda.close()
