"""Build or find the TensorRT plan of a bundle and prove it: a plan that gives other numbers is not kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import choose_tensorrt
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig, parse_target
from simplenet_edge.engines.tensorrt.plan_store import PlanStore, StoredPlan
from simplenet_edge.engines.tensorrt.provision import build_for_targets
from simplenet_edge.engines.verify import Verification, verify
from simplenet_edge.errors import ConfigError
from simplenet_edge.progress import Progress

__all__ = ["BuiltEngine", "build_engine"]


@dataclass(frozen=True)
class BuiltEngine:
    """A plan that is stored, and the replay that it passed."""

    bundle: Bundle
    plan: StoredPlan
    replayed: Verification | None  # None: built for GPUs that are elsewhere


def build_engine(
    path: Path,
    engine: str = "auto",
    precision: str = "fp32",
    *,
    target: str | None = None,
    opt_batch: int | None = None,
    max_batch: int | None = None,
    workspace_mib: int = 2048,
    cache: Path | None = None,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> BuiltEngine:
    """A plan for the bundle at `path`: a stored one that fits this device, or for `rebuild` and otherwise a new one.

    It has replayed the golden frames. With `target`, such as "rtx:8.6,8.9", it is compiled for other GPUs and replays
    nothing. Without `opt_batch` and `max_batch` a stored plan of any batch sizes will do. Without `progress`, a build
    is reported in the log.

    Raises ParityError where the golden frames come out differently; that plan is removed. Raises ConfigError for
    options that can't work, BundleError, and EngineError where the build fails.
    """
    if target is not None and engine not in ("auto", "tensorrt_rtx"):
        raise ConfigError(f"--target builds for tensorrt_rtx, not for {engine}; leave --engine or --target out")
    bundle, profile = Bundle(path), _batch_profile(opt_batch, max_batch)
    capabilities = () if target is None else parse_target(target)
    config = BuildConfig(profile or BatchProfile(), workspace_mib, capabilities)
    if target is not None:
        return BuiltEngine(bundle, build_for_targets(bundle, precision, config, cache, progress), None)
    kind = choose_tensorrt(engine)
    with kind(bundle, precision, profile, config=config, cache=cache, rebuild=rebuild, progress=progress) as opened:
        plan, replayed = opened.require_plan(), verify(opened)
    if not replayed.passed:
        PlanStore(plan.path.parent).discard(plan)
    return BuiltEngine(bundle, plan, replayed.require())


def _batch_profile(opt_batch: int | None, max_batch: int | None) -> BatchProfile | None:
    """None where no batch size was asked for: a stored plan of any will do."""
    if opt_batch is None and max_batch is None:
        return None
    opt_batch = BatchProfile.opt_batch if opt_batch is None else opt_batch
    return BatchProfile(opt_batch, max(BatchProfile.max_batch, opt_batch) if max_batch is None else max_batch)
