"""Commands for the device beside the line: build, verify, inspect, doctor. No PyTorch."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, warn
from simplenet_edge.cli.options import (
    BundleArgument,
    EngineOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
)
from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:
    from simplenet_edge.engines.tensorrt.builder import BatchProfile

__all__ = ["COMMANDS"]


def build(
    bundle: BundleArgument,
    engine: Annotated[str, typer.Option("--engine", help="auto, tensorrt or tensorrt_rtx.")] = "auto",
    precision: PrecisionOption = "fp32",
    target: Annotated[
        str | None,
        typer.Option("--target", help="Build for other GPUs, here without one: rtx:8.6,8.9 (compute capabilities)."),
    ] = None,
    opt_batch: Annotated[
        int | None, typer.Option("--opt-batch", help="Frames a call that it is fastest for: 1.")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option("--max-batch", help="Frames a call at most: 4. Memory grows with it.")
    ] = None,
    workspace: Annotated[int, typer.Option("--workspace", help="Scratch memory of a layer at most, MiB.")] = 2048,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder for plans, instead of the bundle; also set SIMPLENET_EDGE_CACHE to it."),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build although there is a plan that fits.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile a TensorRT engine and replay the golden frames on it; with --target only compile."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import choose_tensorrt
    from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig, parse_target
    from simplenet_edge.engines.tensorrt.plan_store import PlanStore
    from simplenet_edge.engines.tensorrt.provision import build_for_targets
    from simplenet_edge.engines.verify import verify as replay

    if target is not None and engine not in ("auto", "tensorrt_rtx"):
        raise ConfigError(f"--target builds for tensorrt_rtx, not for {engine}; leave --engine or --target out")
    opened_bundle, profile = Bundle(bundle), _batch_profile(opt_batch, max_batch)
    config = BuildConfig(profile or BatchProfile(), workspace, () if target is None else parse_target(target))
    with progress_bars() if sys.stderr.isatty() else nullcontext() as bars:  # a log gets lines instead
        progress = None if bars is None else bars.report
        if target is not None:
            plan, result = build_for_targets(opened_bundle, precision, config, cache, progress), None
        else:
            kind = choose_tensorrt(engine)
            built = kind(
                opened_bundle, precision, profile, config=config, cache=cache, rebuild=rebuild, progress=progress
            )
            with built as opened:
                plan, result = opened.require_plan(), replay(opened)
    if result is not None and not result.passed:
        PlanStore(plan.path.parent).discard(plan)
        result.require()
    if as_json:
        replayed = None if result is None else result.to_dict()
        print_json({"plan": str(plan.path), "key": dataclasses.asdict(plan.key), **plan.build, "replayed": replayed})
        return
    rows = [
        ("plan", str(plan.path)),
        ("built with", f"{plan.key.flavour} {plan.key.version}, {plan.build['seconds']:.1f} s"),
        ("GPU", ", ".join(plan.key.gpus)),
        ("batches", f"1 to {plan.key.max_batch}, best {plan.key.opt_batch}"),
        ("size", f"{plan.build['bytes'] / 2**20:.1f} MiB"),
        ("golden frames", f"{len(result.frames)} replayed: passed" if result else "on the device, at the first run"),
    ]
    print_table(f"{opened_bundle.manifest.name}, {precision}", ("", ""), rows)
    for fallback in plan.build["fallbacks"]:
        warn(f"the first build failed; this one was made with: {fallback}")


def _batch_profile(opt_batch: int | None, max_batch: int | None) -> BatchProfile | None:
    """None where no profile was asked for: a stored plan of any will do."""
    from simplenet_edge.engines.tensorrt.builder import BatchProfile

    if opt_batch is None and max_batch is None:
        return None
    opt_batch = BatchProfile.opt_batch if opt_batch is None else opt_batch
    return BatchProfile(opt_batch, max(BatchProfile.max_batch, opt_batch) if max_batch is None else max_batch)


def verify(
    bundle: BundleArgument,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the golden frames and compare: does this device compute what the workstation did?"""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.engines.verify import verify as replay

    with open_engine(Bundle(bundle), engine, precision, threads) as opened:
        result = replay(opened)
    if as_json:
        print_json(result.to_dict())
    else:
        rows = [
            (
                str(frame.index),
                f"{frame.expected_score:.6g}",
                f"{frame.found_score:.6g}",
                f"{frame.score_difference / result.scale:.1e}",
                f"{frame.map_difference / result.scale:.1e}",
            )
            for frame in result.frames
        ]
        columns = ("golden frame", "score, bundle", "score, here", "score difference", "map difference")
        print_table(f"{result.engine} ({result.provider}), {result.precision}", columns, rows)
        note(f"allowed: {result.tolerance:.0e} of the scale; {'passed' if result.passed else 'FAILED'}")
    result.require()


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle says about itself, after checking every file's hash."""
    import json

    from simplenet_edge.bundle import Bundle

    opened = Bundle(bundle)
    manifest = opened.manifest
    if as_json:
        print_json({"id": opened.id, **json.loads(manifest.to_json())})
        return
    rows = [
        ("id", opened.id),
        ("created", manifest.created),
        ("backbone", f"{manifest.model.backbone}: {', '.join(manifest.model.layers)}"),
        ("remembered patches", f"at most {manifest.model.memory_size}"),
        ("model frame", f"{manifest.input.height} x {manifest.input.width}, {manifest.input.resize}"),
        ("takes frames of", " x ".join(map(str, opened.frame_hw))),
    ]
    for precision, record in manifest.precisions.items():
        point, statistics = record.operating_point, record.score_statistics
        guarantee = f"at most {point.alpha:.2%}" if point.guaranteed else "no guarantee"
        rows += [
            (precision, record.graph),
            ("  threshold", f"{point.threshold:.6g}"),
            ("  false rejects", f"{guarantee}, from {point.n_calibration} good images"),
            ("  good scores", f"{statistics.min:.4g} .. {statistics.median:.4g} .. {statistics.max:.4g}"),
        ]
        figures = {name: value for name, value in record.metrics.items() if isinstance(value, float)}
        if figures:
            rows.append(("  measured", ", ".join(f"{name} {value:.4f}" for name, value in figures.items())))
    rows += [(f"version of {name}", version) for name, version in manifest.versions.items()]
    print_table(manifest.name, ("", ""), rows)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has, what is missing and how to get it."""
    from simplenet_edge.doctor import diagnose

    checks = diagnose()
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
        return
    signs = {True: "ok", False: "missing", None: "-"}
    print_table("Doctor", ("", "", "", ""), [(c.name, signs[c.ok], c.detail, c.advice or "") for c in checks])


COMMANDS = (build, verify, inspect, doctor)
