"""`visibility`: how small a defect a training run or a bundle still sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, warn_left_out
from simplenet_edge.cli.options import EngineOption, JsonOption, PrecisionOption

if TYPE_CHECKING:
    from simplenet_edge.evaluation.visibility import Visibility

__all__ = ["visibility"]


def visibility(
    model: Annotated[Path, typer.Argument(help="A training run or a bundle.")],
    good: Annotated[
        Path | None,
        typer.Option("--good", help="Folder with images of good parts; a run's calibration images when left out."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for visibility.html and visibility.json; RUN/visibility for a run."
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Defects to draw of each of the five kinds.")] = 300,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Say how small a defect the model still sees, from defects drawn on good images: a90 and a90/95, and a page.

    The figures go into the bundle's manifest, which gives the bundle a new id, or with the run into its next export.
    """
    from simplenet_edge.evaluation.visibility import VisibilityConfig
    from simplenet_edge.workflows.artifact_visibility import measure_artifact

    config = VisibilityConfig(draws=draws)
    with progress_bars() as bars:
        measured = measure_artifact(model, good, output, engine, precision, config, bars.report)
    warn_left_out(measured.left_out)
    if as_json:
        print_json({"bundle_id": measured.bundle_id, **measured.visibility.to_dict()})
        return
    _print(measured.visibility)
    note(f"page: {measured.page}")
    if measured.bundle_id is not None:
        note(f"the bundle's new id: {measured.bundle_id}")


def _print(found: Visibility) -> None:
    from simplenet_edge.evaluation.report.visibility_page import size_text

    contrasts = found.config.contrasts
    rows = []
    for kind in dict.fromkeys(size.kind for size in found.sizes):
        sizes = [found.size(kind, contrast) for contrast in contrasts]
        rows.append((kind, *map(size_text, sizes)))
    columns = ("a90 / a90/95", *(f"contrast {contrast:.0%}" for contrast in contrasts))
    print_table(f"Smallest visible defect, images of {found.image_hw[1]} x {found.image_hw[0]}", columns, rows)
    note(f"drawn on {found.n_images} good images; {found.n_rejected} that are NG without a defect are left out")
