"""`check`: look over a dataset before training. No PyTorch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_lines, print_table, progress_bars
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import BitDepthOption, ImageOptions
from simplenet_edge.errors import ConfigError, DataError

if TYPE_CHECKING:
    from simplenet_edge.data.check import CheckReport

__all__ = ["check"]


@with_option_groups
def check(
    images: Annotated[ImageOptions, OptionGroup(ImageOptions)],
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="The dataset, as --data names it.", show_default=False)
    ] = None,
    bit_depth: BitDepthOption = 16,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for check.html, with the oddest images.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE|-", help="File for the findings as JSON; - prints them instead of tables."
        ),
    ] = None,
) -> None:
    """Look over a dataset before training: layout, masks, damaged, flat and duplicate images, sizes, light.

    Leaves with 0 whatever it finds, unless `train` would refuse the images: then as `train` does.
    """
    from simplenet_edge.data.check import check_dataset
    from simplenet_edge.files import write_json

    if dataset is not None:
        if images.data is not None:
            raise ConfigError("DATA and --data are the same; name one of them")
        images = dataclasses.replace(images, data=dataset)
    with _quiet_log():
        loaded = images.dataset()
    with progress_bars() as bars:
        report = check_dataset(loaded, bit_depth, bars.report)
    if json == Path("-"):
        print_json(report.to_dict())
    else:
        _print(report)
    if json is not None and json != Path("-"):
        write_json(json, report.to_dict())
    if output is not None:
        from simplenet_edge.evaluation.report.check_page import write_check_page

        note(f"oddest images: {write_check_page(output, report)}")
    if report.refusal is not None:
        raise DataError(f"training would refuse this: {report.refusal}")


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep what the loader says of the folders out of the log: it stands among the findings."""
    log = logging.getLogger("simplenet_edge")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _print(report: CheckReport) -> None:
    rows = [
        (
            group.name,
            str(group.n),
            str(group.n_damaged),
            group.sizes[0] + (f" + {len(group.sizes) - 1}" if len(group.sizes) > 1 else "") if group.sizes else "-",
            "-" if group.mean is None else f"{group.mean:.0f} ± {group.mean_spread:.0f}",
            "-" if group.contrast is None else f"{group.contrast:.0f}",
        )
        for group in report.groups
    ]
    dataset = report.dataset
    columns = ("images", "count", "damaged", "size", "grey level", "contrast")
    print_table(f"{dataset.name}: {dataset.layout}", columns, rows)
    found = [f"{finding.kind}: {finding.text}" for finding in report.findings]
    print_lines(found or ["nothing odd was found"])
