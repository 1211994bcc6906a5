"""`train`: from images of good parts to a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simplenet_edge.cli.console import print_json, print_table, progress_bars, resumable, warn, warn_left_out
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import ImageOptions, JsonOption
from simplenet_edge.cli.training_options import training_options
from simplenet_edge.training.options import TrainingOptions

__all__ = ["train"]


@with_option_groups
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the training run.")],
    images: Annotated[ImageOptions, OptionGroup(ImageOptions)],
    options: Annotated[TrainingOptions, OptionGroup(training_options)],
    seed: Annotated[int, typer.Option(help="Seed of split, networks, noise and order.")] = 0,
    int8: Annotated[
        bool, typer.Option("--int8", help="Train the head for INT8 too, in as long again; export --int8 has it then.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on images of good parts."""
    from simplenet_edge.spec import to_dict
    from simplenet_edge.threshold import guarantee_warning
    from simplenet_edge.workflows.train import train as run_training

    good = images.dataset().train
    with resumable(f"the same command with --resume goes on with {output}"), progress_bars() as bars:
        run = run_training(
            good,
            output,
            options,
            seed=seed,
            resume=resume,
            int8=int8,
            progress=bars.report,
            on_message=warn,
            on_loss=bars.loss,
        )
    warn(guarantee_warning(run.operating_point))
    warn_left_out(run.record.corrupt)
    seconds = dataclasses.asdict(run.record.seconds)
    values = {"run": str(output), "operating_point": to_dict(run.operating_point), **seconds}
    if as_json:
        print_json(values)
        return
    point, n_judged = run.operating_point, len(run.calibration_scores)
    n_parts = point.n_parts or point.n_calibration
    used = f"{len(run.record.split.train)} + {n_judged} for calibration ({n_parts} parts)"
    if point.folds is not None:
        used = f"{n_judged} ({n_parts} parts), trained on and, by {point.folds} more models, calibrated on"
    print_table(
        "Training run",
        ("", ""),
        [
            ("folder", str(output)),
            ("good images", used),
            ("features, training", f"{seconds['extraction']:.1f} s, {seconds['training']:.1f} s"),
            ("threshold", f"{point.threshold:.6g}"),
            ("false rejects", f"at most {point.alpha:.2%}" if point.guaranteed else "no guarantee"),
        ],
    )
