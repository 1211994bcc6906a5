"""Which plan an engine runs: a stored one that fits this device, or a new one, built with progress and stored."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig, build_plan
from simplenet_edge.engines.tensorrt.cuda_memory import Device
from simplenet_edge.engines.tensorrt.library import TensorRTLibrary, load_library
from simplenet_edge.engines.tensorrt.plan_store import PlanKey, PlanStore, StoredPlan, plan_folder, plan_key
from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.files import write_bytes
from simplenet_edge.progress import Progress

__all__ = ["build_for_targets", "log_progress", "obtain_plan", "require_stored_plan"]

_LOG_EVERY_S = 10.0
_log = logging.getLogger(__name__)


def build_for_targets(
    bundle: Bundle, precision: str, config: BuildConfig, cache: Path | None = None, progress: Progress | None = None
) -> StoredPlan:
    """Build a plan of TensorRT for RTX for `config.capabilities`, on a machine with or without a GPU, and store it.

    Raises EngineUnavailable without the library, EngineError where the build fails.
    """
    if not config.capabilities:
        raise ConfigError("name the compute capabilities to build for, such as --target rtx:8.6,8.9")
    library = load_library("tensorrt_rtx")
    built = build_plan(library, bundle, precision, config, progress=progress or log_progress())
    key = plan_key(bundle, precision, library.flavour, library.version, config.capabilities, config.profile)
    return PlanStore(plan_folder(bundle, cache)).save(key, built)


def obtain_plan(
    library: TensorRTLibrary,
    device: Device,
    bundle: Bundle,
    precision: str,
    *,
    profile: BatchProfile | None = None,
    config: BuildConfig | None = None,
    cache: Path | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> StoredPlan:
    """A stored plan that runs on `device`; where there is none (the reasons are logged), or for `rebuild`, a new one.

    `profile` None takes a plan of any profile, and builds with that of `config`. Raises EngineError where the build
    fails.
    """
    config = config or BuildConfig()
    config = dataclasses.replace(config, profile=profile or config.profile)
    key = _device_key(library, device, bundle, precision, config.profile)
    (gpu,) = key.gpus
    store = PlanStore(plan_folder(bundle, cache))
    if not rebuild:
        stored, reasons = store.find(key, any_profile=profile is None)
        for reason in reasons:
            _log.warning("can't use a stored plan: %s", reason)
        if stored is not None:
            return stored
    if library.is_rtx:
        config = dataclasses.replace(config, capabilities=(device.capability,))
    _log.warning("building the %s engine for %s; this may take minutes", precision, gpu)
    timing_cache = store.folder / f"timing-{library.version}-{gpu.replace(' ', '-').replace('/', '-')}.cache"
    known_timings = timing_cache.read_bytes() if timing_cache.is_file() else b""
    built = build_plan(
        library, bundle, precision, config, timing_cache=known_timings, progress=progress or log_progress()
    )
    stored = store.save(key, built)
    if built.timing_cache:
        try:
            write_bytes(timing_cache, built.timing_cache)
        except OSError as error:
            _log.warning("the timing cache is not kept (%s); the next build takes as long", error)
    return stored


def require_stored_plan(library: TensorRTLibrary, device: Device, bundle: Bundle, precision: str) -> StoredPlan:
    """The newest stored plan, of any profile, that runs on `device`. Raises EngineError where there is none."""
    key = _device_key(library, device, bundle, precision, BatchProfile())
    folder = plan_folder(bundle)
    stored, reasons = PlanStore(folder).find(key, any_profile=True)
    if stored is None:
        found = "; ".join(reasons) or "none"
        raise EngineError(
            f"expected a {precision} plan of {library.flavour} {library.version} for {key.gpus[0]} in {folder}, found "
            f"{found}; run: simplenet-edge build --engine {library.flavour} --precision {precision} on this device"
        )
    return stored


def log_progress() -> Progress:
    """Progress as a line in the log every ten seconds, at the level of warnings: a silent build looks like a hang."""
    last = time.monotonic()

    def report(phase: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            _log.warning("still building: %s, %d of %d", phase, done, total)

    return report


def _device_key(
    library: TensorRTLibrary, device: Device, bundle: Bundle, precision: str, profile: BatchProfile
) -> PlanKey:
    gpu = device.capability if library.is_rtx else f"{device.capability} {device.name}"
    return plan_key(bundle, precision, library.flavour, library.version, (gpu,), profile)
