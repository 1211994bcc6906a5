"""Commands for the device beside the line: verify, benchmark, run, inspect, doctor. No PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from simplenet_edge.cli.console import note, print_json, print_table, warn
from simplenet_edge.cli.options import EngineOption, JsonOption, PrecisionOption, ThreadsOption, parse_ints, parse_size
from simplenet_edge.errors import ConfigError

__all__ = ["COMMANDS"]

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder, or one .zip file.")]


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
    from simplenet_edge.runtime.verify import verify as replay

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


def benchmark(
    bundle: BundleArgument,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes with commas between.")] = "1",
    duration: Annotated[float, typer.Option("--duration", help="Seconds for each figure.")] = 5.0,
    camera: Annotated[str, typer.Option("--camera", help="Camera frame, HEIGHTxWIDTH.")] = "1080x1920",
    as_json: JsonOption = False,
) -> None:
    """Measure FPS and latency: the engine alone, and from a camera frame to the verdict."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.runtime.benchmark import BenchmarkConfig
    from simplenet_edge.runtime.benchmark import benchmark as measure

    config = BenchmarkConfig(parse_ints(batch), duration, camera_hw=parse_size(camera))
    with open_engine(Bundle(bundle), engine, precision, threads) as opened:
        result = measure(opened, config)
    if as_json:
        print_json(result.to_dict())
        return
    rows = []
    for row in result.batches:
        for name, latency in (("engine only", row.engine_only), ("camera to verdict", row.end_to_end)):
            times = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms)
            rows.append(
                (f"{name}, batch {row.batch}", f"{latency.frames_per_s:.1f}", *(f"{value:.2f}" for value in times))
            )
    title = f"{result.engine} ({result.provider}), {result.precision}, {result.cpu} x{result.cpu_count}"
    print_table(title, ("", "FPS", "p50 ms", "p90 ms", "p99 ms", "max ms"), rows)
    for text in result.warnings:
        warn(text)


def run(
    bundle: BundleArgument,
    source: Annotated[
        str, typer.Argument(help="A folder, an image, a video file, a camera number or v4l2:///dev/videoN.")
    ],
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="File for the verdicts; standard output when left out.")
    ] = None,
    overlays: Annotated[Path | None, typer.Option("--overlays", help="Folder for images with their heatmap.")] = None,
    overlay: Annotated[str, typer.Option("--overlay", help="Which frames get one: ng or all.")] = "ng",
    check: Annotated[bool, typer.Option(help="Replay the golden frames first.")] = True,
) -> None:
    """Inspect every frame of a source; one JSON line a frame."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.runtime.detector import Detector
    from simplenet_edge.runtime.sinks import JsonlSink, OverlaySink, Sink
    from simplenet_edge.runtime.sources import open_source
    from simplenet_edge.runtime.stream import run as stream
    from simplenet_edge.runtime.verify import verify as replay

    opened_bundle, frames = Bundle(bundle), open_source(source)
    sinks: list[Sink] = [JsonlSink(jsonl)]
    if overlays is not None:
        level = opened_bundle.record(precision).score_statistics.median
        sinks.append(OverlaySink(overlays, level, _overlay_choice(overlay), frames.folder))
    with open_engine(opened_bundle, engine, precision, threads) as opened:
        if check and engine != "fake":
            replay(opened).require()
        summary = stream(frames, Detector(opened), sinks)
    text = f"{summary.frames} frames in {summary.seconds:.1f} s: {summary.ok} OK, {summary.ng} NG"
    note(f"{text}, {summary.invalid} INVALID" + (" (interrupted)" if summary.interrupted else ""))


def _overlay_choice(text: str) -> Literal["ng", "all"]:
    if text == "ng":
        return "ng"
    if text == "all":
        return "all"
    raise ConfigError(f"--overlay must be ng or all, not {text!r}")


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
        ("frame", f"{manifest.input.height} x {manifest.input.width}, {manifest.input.resize}"),
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
    from simplenet_edge.runtime.doctor import diagnose

    checks = diagnose()
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
        return
    signs = {True: "ok", False: "missing", None: "-"}
    print_table("Doctor", ("", "", "", ""), [(c.name, signs[c.ok], c.detail, c.advice or "") for c in checks])


COMMANDS = (verify, benchmark, run, inspect, doctor)
