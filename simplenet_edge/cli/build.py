"""`build`: compile the engine of a bundle for this device, or for GPUs that are elsewhere. No PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simplenet_edge.cli.console import print_json, print_table, progress_on_terminal, warn
from simplenet_edge.cli.options import BundleArgument, JsonOption, PrecisionOption

__all__ = ["build"]


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
    from simplenet_edge.workflows.build_engine import build_engine

    with progress_on_terminal() as progress:
        built = build_engine(
            bundle,
            engine,
            precision,
            target=target,
            opt_batch=opt_batch,
            max_batch=max_batch,
            workspace_mib=workspace,
            cache=cache,
            rebuild=rebuild,
            progress=progress,
        )
    plan, result = built.plan, built.replayed
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
    print_table(f"{built.bundle.manifest.name}, {precision}", ("", ""), rows)
    for fallback in plan.build["fallbacks"]:
        warn(f"the first build failed; this one was made with: {fallback}")
