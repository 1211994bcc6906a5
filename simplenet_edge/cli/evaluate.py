"""`evaluate`: measure a training run or a bundle on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, warn, warn_left_out
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import EngineOption, ImageOptions, JsonOption, PrecisionOption

if TYPE_CHECKING:
    from simplenet_edge.evaluation.results import Evaluation

__all__ = ["evaluate"]


@with_option_groups
def evaluate(
    model: Annotated[Path, typer.Argument(help="A training run or a bundle.")],
    images: Annotated[ImageOptions, OptionGroup(ImageOptions)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.html and evaluation.json; RUN/evaluation for a run."),
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled images and write an HTML report. Test images never move the threshold."""
    from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact

    dataset = images.dataset(for_training=False)
    with progress_bars() as bars:
        result, report = evaluate_artifact(model, dataset, output, engine, precision, bars.report)
    warn_left_out([f"{name}: {reason}" for name, reason in result.corrupt])
    for reason in result.undefined():
        warn(reason)
    warn(result.parts_warning())
    if as_json:
        print_json(result.to_dict())
        return
    _print_evaluation(result)
    note(f"report: {report}")


def _print_evaluation(result: Evaluation) -> None:
    """The figures of an evaluation as a table."""

    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [
        (
            "all",
            str(len(result.images)),
            figure(result.metrics.image_auroc),
            figure(result.metrics.pixel_auroc),
            figure(result.metrics.aupro),
            figure(result.verdicts.recall),
        )
    ]
    rows += [
        (
            row.defect,
            str(row.n),
            figure(row.image_auroc),
            figure(row.pixel_auroc),
            figure(row.aupro),
            figure(row.recall),
        )
        for row in result.classes
    ]
    print_table("Evaluation", ("class", "images", "image AUROC", "pixel AUROC", "AUPRO", "recall"), rows)
    note(f"false rejects at the threshold: {figure(result.verdicts.false_reject_rate)}")
