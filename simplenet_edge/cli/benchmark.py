"""`benchmark`: how fast a bundle is on this machine, and how two such measurements differ. No PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_on_terminal, warn
from simplenet_edge.cli.options import (
    EngineOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    parse_camera,
    parse_ints,
)
from simplenet_edge.errors import ConfigError
from simplenet_edge.files import require_writable, write_text
from simplenet_edge.progress import ignore

if TYPE_CHECKING:
    from simplenet_edge.benchmark.results import BenchmarkConfig

__all__ = ["benchmark"]


def benchmark(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="A bundle: a folder, or one .zip file.", show_default=False)
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            help="single-stream (one frame per call, p90), offline (batches, frames per second), stream (camera image "
            "to verdict, by stage), or several with commas between; all when left out.",
        ),
    ] = "all",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every engine and precision that can run here, in turns.")
    ] = False,
    batch: Annotated[
        str, typer.Option("--batch", help="Batch sizes of offline and stream, with commas between.")
    ] = "1",
    duration: Annotated[float, typer.Option("--duration", help="Seconds for each figure.")] = 30.0,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Where stream takes its first 16 images from; golden frames when left out."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera", help="Size that golden frames are scaled to for stream; 1920x1080, or what the bundle takes."
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", help="Two saved results (--json), before and after; nothing is measured."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="File for the tables as Markdown.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Folder for SVG plots of the calls.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and frames per second: of the engine alone, and from a camera image to the verdict."""
    from simplenet_edge.benchmark import report as report

    if compare is not None:
        if bundle is not None:
            raise ConfigError("--compare reads two saved results and measures nothing; leave the bundle out")
        _compare(*compare, as_json)
        return
    if bundle is None:
        raise ConfigError("name a bundle to measure, or --compare two saved results")
    if source is not None and camera is not None:
        raise ConfigError("--camera scales golden frames; with --source the images keep their size: leave one out")
    if everything and (engine, precision) != ("auto", "fp32"):
        raise ConfigError("--all measures every engine and precision; leave --engine and --precision out")
    for folder in (markdown and markdown.parent, plots):
        if folder is not None:
            require_writable(folder)
    result = _measure(
        bundle, (engine, precision, threads), everything, _config(scenario, batch, duration, camera), source
    )
    if markdown is not None:
        write_text(markdown, report.markdown(result))
    if plots is not None:
        from simplenet_edge.benchmark.plots import plots as draw

        for name, text in draw(result).items():
            write_text(plots / name, text)
    if as_json:
        print_json(result)
    else:
        told = result["environment"]
        note(
            f"{told['cpu']} x{told['cpu_count']}, {told['os']}; means with their 95 % interval; score drift: from the "
            "FP32 golden frames, as a share of their maps' range"
        )
        for table in report.tables(result):
            print_table(*table)
    for text in report.warnings(result):
        warn(text)


def _measure(
    bundle: Path,
    choice: tuple[str, str, int | None],
    everything: bool,
    config: BenchmarkConfig,
    source: str | None,
) -> dict[str, Any]:
    from simplenet_edge.benchmark.run import Candidate, all_candidates, camera_images
    from simplenet_edge.benchmark.run import benchmark as measure
    from simplenet_edge.bundle import Bundle

    opened = Bundle(bundle)
    candidates = all_candidates(opened, choice[2]) if everything else [Candidate(*choice)]
    images = None
    if source is not None:
        from simplenet_edge.runtime.sources import open_source

        images = camera_images(open_source(source))
    with progress_on_terminal() as progress:
        return measure(opened, candidates, config, images, progress or ignore).to_dict()


def _config(scenario: str, batch: str, duration: float, camera: str | None) -> BenchmarkConfig:
    from simplenet_edge.benchmark.results import SCENARIOS, BenchmarkConfig, Scenario

    named = SCENARIOS if scenario == "all" else tuple(part.strip() for part in scenario.split(","))
    return BenchmarkConfig(
        cast("tuple[Scenario, ...]", named),
        parse_ints(batch),
        duration,
        camera_hw=None if camera is None else parse_camera(camera),
    )


def _compare(before_path: Path, after_path: Path, as_json: bool) -> None:
    from simplenet_edge.benchmark.report import compare, differences, load

    before, after = load(before_path), load(after_path)
    changes, others = compare(before, after), differences(before, after)
    if as_json:
        print_json({"changes": [change.to_dict() for change in changes], "differences": others})
        return
    rows = [
        (
            change.label,
            f"{change.before_ms:.2f}",
            f"{change.after_ms:.2f}",
            f"{change.ratio:.3f}",
            "{:.3f} .. {:.3f}".format(*change.interval),
            change.verdict,
        )
        for change in changes
    ]
    columns = ("p50 of a call", "before ms", "after ms", "ratio", "95 % interval", "")
    print_table(f"{before_path.name} -> {after_path.name}", columns, rows)
    for text in others:
        warn(f"differs besides: {text}")
