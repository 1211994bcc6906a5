"""`score`: the verdicts on a whole archive of pictures, in one Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.archive.options import LOCAL, ScoreOptions
from simplenet_edge.cli.console import note, print_json, print_lines, progress_bars, resumable, warn
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import BundleArgument, EngineOption, JsonOption, PrecisionOption, ThreadsOption

if TYPE_CHECKING:
    from simplenet_edge.archive.score import ArchiveSummary

__all__ = ["GO_ON", "archive_options", "score", "warn_without_score"]

GO_ON = "the same command goes on with what has no score yet"
PicturesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURES...", help="Folders, globs in quotes, files, or URLs that fsspec knows, such as s3://..."
    ),
]


def archive_options(
    ray: Annotated[
        str,
        typer.Option("--ray", help="Address of a Ray cluster to work on, such as 10.0.0.5:6379; local: this machine."),
    ] = LOCAL,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes with an engine each; one per processor, or GPU, when left out."),
    ] = None,
    threads: ThreadsOption = None,
    batch: Annotated[int, typer.Option("--batch", help="Frames of one call of the engine.")] = 8,
) -> ScoreOptions:
    """The options as values. Raises ConfigError."""
    return ScoreOptions(ray, engine, precision, workers, threads, batch)


@with_option_groups
def score(
    bundle: BundleArgument,
    pictures: PicturesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file, one row a picture.")],
    options: Annotated[ScoreOptions, OptionGroup(archive_options)],
    as_json: JsonOption = False,
) -> None:
    """Score an archive of pictures into a Parquet file. Run again, it goes on, and does what is new."""
    from simplenet_edge.archive.score import score_archive
    from simplenet_edge.bundle import Bundle

    with resumable(GO_ON), progress_bars() as bars:
        found = score_archive([Bundle(bundle)], pictures, output, options, progress=bars.report, on_message=note)
    if as_json:
        print_json(found.to_dict())
        return
    print_lines([f"{found.pictures} pictures: {found.ok} OK, {found.ng} NG, {found.failed} without a score"])
    warn_without_score(found)
    note(f"results: {found.path}, {found.scored} of them new")


def warn_without_score(found: ArchiveSummary) -> None:
    """A warning for each of the first pictures without a score, and one that counts the rest."""
    for path, error in found.errors:
        warn(f"{path}: {error}")
    if found.failed > len(found.errors):
        warn(f"{found.failed - len(found.errors)} more without a score; the file says why")
