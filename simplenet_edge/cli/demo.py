"""`demo`: the whole product on parts that it draws itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars
from simplenet_edge.cli.options import JsonOption, OverwriteOption

__all__ = ["demo"]


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that the demo makes.")] = Path(
        "demo-output"
    ),
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict of torchvision's MobileNetV2, to use instead of EfficientNet-Lite0."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make part images, train, evaluate, export, verify, benchmark and stream them: the whole product in minutes."""
    from simplenet_edge.workflows.demo import run_demo

    with progress_bars() as bars:
        result: dict[str, Any] = run_demo(output, weights, overwrite=overwrite, progress=bars.report, on_message=note)
    if as_json:
        print_json(result)
        return
    print_table("Demo", ("", ""), [(key, str(value)) for key, value in result.items()])
