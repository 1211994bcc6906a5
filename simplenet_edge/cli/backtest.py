"""`backtest`: what a new bundle would have changed in an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.archive.options import ScoreOptions
from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, resumable
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import JsonOption
from simplenet_edge.cli.score import GO_ON, PicturesArgument, archive_options, warn_without_score

if TYPE_CHECKING:
    from simplenet_edge.evaluation.backtest import Backtest

__all__ = ["backtest"]


@with_option_groups
def backtest(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The bundle in use.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The bundle that may take its place.")],
    pictures: PicturesArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for backtest.html, backtest.json and scores.parquet.")
    ],
    options: Annotated[ScoreOptions, OptionGroup(archive_options)],
    as_json: JsonOption = False,
) -> None:
    """Score an archive with two bundles and show what would change: verdicts, scores, thresholds, pictures.

    Run again, it goes on, and does what is new.
    """
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.workflows.backtest_archive import PAGE_NAME, backtest_archive

    with resumable(GO_ON), progress_bars() as bars:
        found, summary = backtest_archive(
            Bundle(old), Bundle(new), pictures, output, options, progress=bars.report, on_message=note
        )
    warn_without_score(summary)
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)
    note(f"page: {output / PAGE_NAME}")


def _print(found: Backtest) -> None:
    rows = [
        (
            name,
            str(model.rejected),
            f"{100 * model.rate:.3g}%",
            f"{100 * model.rate_bound:.3g}%",
            f"{model.threshold:.6g}",
            f"{100 * model.alpha:.3g}%",
            f"{model.archive_threshold:.6g}",
        )
        for name, model in (("old", found.old), ("new", found.new))
    ]
    columns = ("", "NG", "share", "at most", "threshold", "alpha", "threshold for it here")
    print_table(f"{found.pictures} pictures", columns, rows)
    correlation = "not defined" if found.rank_correlation is None else f"{found.rank_correlation:.3f}"
    note(
        f"same verdict: {100 * found.agreement:.2f}%; from OK to NG: {found.ok_to_ng}, from NG to OK: "
        f"{found.ng_to_ok}; rank correlation: {correlation}"
    )
