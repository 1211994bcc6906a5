"""An ONNX graph becomes a TensorRT plan: one recipe for TensorRT 10.3 to 11 and TensorRT for RTX.

In: the serialised ONNX graph of a bundle, which carries its types (strong typing: nothing is rounded that the graph
does not round, TF32 included). Out: the bytes of a plan, for batches of 1 to `max_batch` frames.

TensorRT for RTX compiles on machines without a GPU.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from dataclasses import dataclass
from typing import Any

from simplenet_edge.bundle import Bundle
from simplenet_edge.contract import FRAMES, TensorSpec, check_contract
from simplenet_edge.engines.tensorrt.library import TensorRTLibrary
from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.progress import Progress

__all__ = ["FALLBACKS", "BatchProfile", "BuildConfig", "BuiltPlan", "build_plan", "parse_target"]

_MOST_TACTICS = 5  # TensorRT's highest builder optimisation level: every tactic is compiled and compared
_SHOWN_ERRORS = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchProfile:
    """Batches of 1 to `max_batch` frames run; batches of `opt_batch` run best. Memory grows with `max_batch`."""

    opt_batch: int = 1
    max_batch: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.opt_batch <= self.max_batch:
            raise ConfigError(f"expected 1 <= opt_batch <= max_batch, found {self.opt_batch} and {self.max_batch}")


@dataclass(frozen=True)
class BuildConfig:
    """How a plan is built.

    `workspace_mib` caps the scratch memory of one layer in MiB; None leaves it to TensorRT. `capabilities` are the
    compute capabilities that TensorRT for RTX compiles for, such as "8.6"; empty means the GPU of this machine.
    `optimization_level` is TensorRT's builder optimisation level, None its default.
    """

    profile: BatchProfile = BatchProfile()
    workspace_mib: int | None = 2048
    capabilities: tuple[str, ...] = ()
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise ConfigError(f"workspace_mib must be at least 1, not {self.workspace_mib}")


FALLBACKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no workspace cap", {"workspace_mib": None}),
    ("every tactic tried (optimisation level 5)", {"workspace_mib": None, "optimization_level": _MOST_TACTICS}),
)
"""What a build that failed is tried again with, in this order: the two remedies that NVIDIA names for "no
implementation for node", where INT8 layers end up. Neither changes what the graph computes."""


@dataclass(frozen=True)
class BuiltPlan:
    """A plan, the timing cache of its build (empty where there is none), and what it took."""

    plan: bytes
    timing_cache: bytes
    seconds: float
    fallbacks: tuple[str, ...]


def parse_target(text: str) -> tuple[str, ...]:
    """The compute capabilities of `rtx:8.6,8.9`. Raises ConfigError."""
    kind, _, rest = text.partition(":")
    capabilities = tuple(part.strip() for part in rest.split(","))
    if kind == "dla":
        raise ConfigError(
            "DLA is not supported: it has neither the types nor the resize of this graph; "
            "leave --target out, on the device, to build for its GPU"
        )
    if kind != "rtx" or not all(re.fullmatch(r"\d+\.\d", part) for part in capabilities):
        raise ConfigError(
            f"expected --target rtx:CAPABILITY,... such as rtx:8.6,8.9, found {text!r}; "
            "plans of TensorRT itself are built on their device, without --target"
        )
    return tuple(dict.fromkeys(capabilities))


def build_plan(
    library: TensorRTLibrary,
    bundle: Bundle,
    precision: str,
    config: BuildConfig,
    *,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> BuiltPlan:
    """Build a plan from a bundle's graph. A failure is tried again with `FALLBACKS`, each with a warning.

    Raises EngineError, with TensorRT's own words, where the graph can't be parsed or no attempt works.
    """
    graph, started = bundle.graph(precision), time.perf_counter()
    attempts = {"": config, **{name: dataclasses.replace(config, **changes) for name, changes in FALLBACKS}}
    failures: list[str] = []
    for name, changed in attempts.items():
        if name:
            _log.warning("the %s build failed (%s); trying again with %s", precision, failures[-1], name)
        attempt = _Attempt(library, changed)
        attempt.parse(graph, bundle, precision)
        plan, new_cache = attempt.build(timing_cache, progress)
        if plan:
            return BuiltPlan(plan, new_cache, time.perf_counter() - started, tuple(attempts)[1 : len(failures) + 1])
        failures.append(_joined(attempt.log.errors))
    raise EngineError(
        f"{library.flavour} {library.version} can't build the {precision} graph of {bundle.path}, tried also with "
        f"{' and with '.join(tuple(attempts)[1:])} ({failures[0]}); use another precision, exported for it: "
        "--precision fp16 or fp32"
    )


class _Attempt:
    """TensorRT's objects of one build; a network that failed to build is not used again."""

    def __init__(self, library: TensorRTLibrary, config: BuildConfig) -> None:
        trt = library.module
        self.library, self.config = library, config
        self.log = library.new_log()
        self._builder = trt.Builder(self.log)
        if self._builder is None:
            raise EngineError(f"{library.flavour} can't start its builder ({_joined(self.log.errors)})")
        self._network = self._builder.create_network(library.bit("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"))
        self._parser = trt.OnnxParser(self._network, self.log)

    def parse(self, graph: bytes, bundle: Bundle, precision: str) -> None:
        """Read the graph into the network. Raises EngineError with the nodes that TensorRT can't take."""
        if not graph or not self._parser.parse(graph):  # no bytes are a graph without nodes to it
            errors = [_describe(self._parser.get_error(index)) for index in range(self._parser.num_errors)]
            raise EngineError(
                f"{self.library.flavour} {self.library.version} can't read the {precision} graph of {bundle.path}: "
                f"{_joined(errors)}; export again"
            )
        check_contract(self._tensors(), bundle.frame_hw, bundle.manifest.input.size_hw, precision, bundle.path)

    def _tensors(self) -> dict[str, TensorSpec]:
        network, trt = self._network, self.library.module
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        types = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}
        return {
            tensor.name: (
                types.get(tensor.dtype, tensor.dtype.name.lower()),
                tuple(size if size >= 0 else None for size in tensor.shape),
            )
            for tensor in tensors
        }

    def build(self, timing_cache: bytes, progress: Progress | None) -> tuple[bytes, bytes]:
        """The plan and the timing cache; both empty where the build failed."""
        options = self._options()
        cache = None if self.library.is_rtx else self._timing_cache(options, timing_cache)
        monitor = _monitor(self.library.module, progress)  # outlives the build
        options.progress_monitor = monitor
        plan = self._builder.build_serialized_network(self._network, options)
        if monitor.error is not None:
            raise monitor.error
        return (b"", b"") if plan is None else (bytes(plan), b"" if cache is None else bytes(cache.serialize()))

    def _options(self) -> Any:
        trt, config = self.library.module, self.config
        options = self._builder.create_builder_config()
        tf32 = getattr(trt.BuilderFlag, "TF32", None)
        if tf32 is not None:
            options.clear_flag(tf32)  # on by default; its 10 bits of mantissa are not the FP32 of the graph
        if config.workspace_mib is not None:
            options.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_mib * 2**20)
        if config.optimization_level is not None:
            options.builder_optimization_level = config.optimization_level
        if config.capabilities:
            self._set_capabilities(options)
        shapes = self._builder.create_optimization_profile()
        frame = tuple(self._network.get_input(0).shape)[1:]
        sizes = (1, config.profile.opt_batch, config.profile.max_batch)
        shapes.set_shape(FRAMES, *((batch, *frame) for batch in sizes))
        options.add_optimization_profile(shapes)
        return options

    def _set_capabilities(self, options: Any) -> None:
        known = {
            name: value for name, value in vars(self.library.module.ComputeCapability).items() if name.startswith("SM")
        }
        options.num_compute_capabilities = len(self.config.capabilities)
        for index, capability in enumerate(self.config.capabilities):
            value = known.get(f"SM{capability.replace('.', '')}")
            if value is None or not options.set_compute_capability(value, index):
                choices = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in known)
                raise EngineError(
                    f"{self.library.flavour} {self.library.version} compiles for compute capabilities {choices}, not "
                    f"for {capability}; use TensorRT itself, on the device, for a GPU that is not among them"
                )

    def _timing_cache(self, options: Any, content: bytes) -> Any:
        cache = options.create_timing_cache(content)
        if not options.set_timing_cache(cache, False):
            _log.warning("the timing cache is of another device or version; starting a new one")
            cache = options.create_timing_cache(b"")
            options.set_timing_cache(cache, False)
        return cache


def _monitor(trt: Any, progress: Progress | None) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes steps on. What `progress` raises (Ctrl-C too) stops the build and is raised after it."""

        def __init__(self) -> None:
            super().__init__()
            self.error: BaseException | None = None
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._totals[phase_name])  # steps may be skipped

        def _tell(self, phase_name: str, done: int) -> None:
            try:
                if progress is not None and self.error is None:
                    progress(phase_name, done, self._totals[phase_name])
            except BaseException as error:  # it must not pass through TensorRT's own threads
                self.error = error

    return Monitor()


def _describe(error: Any) -> str:
    """One error of the parser: what kind, where, and its words, which may be as few as "false"."""
    kind, words = error.code().name.lower().replace("_", " "), " ".join(str(error.desc()).split())
    if not error.node_operator():
        return f"{kind}: {words}"
    return f"{kind}: node {error.node_name() or error.node()} ({error.node_operator()}): {words}"


def _joined(errors: list[str]) -> str:
    more = len(errors) - _SHOWN_ERRORS
    return "; ".join(errors[:_SHOWN_ERRORS]) + (f"; and {more} more" if more > 0 else "") or "it gave no reason"
