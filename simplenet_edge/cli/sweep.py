"""`sweep`: train and measure over seeds and categories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, resumable
from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.options import JsonOption
from simplenet_edge.cli.training_options import training_options
from simplenet_edge.errors import ConfigError
from simplenet_edge.training.options import TrainingOptions

__all__ = ["sweep"]


@with_option_groups
def sweep(
    *,
    data: Annotated[
        Path,
        typer.Option("--data", help="Dataset in the MVTec AD layout, or a folder with one in each subfolder."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the runs, sweep.json and sweep.md.")],
    seeds: Annotated[int, typer.Option(help="How many seeds a dataset: 0, 1, 2, ...")] = 3,
    protocol: Annotated[
        str,
        typer.Option(help="honest: the last model; paper: besides, the best meta-epoch on the test images, labelled."),
    ] = "honest",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Train side by side on the Ray cluster at this address, such as 10.0.0.5:6379; local: on this "
            "machine's processors.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="With --ray: processors that a training takes.")] = 1,
    options: Annotated[TrainingOptions, OptionGroup(training_options)],
    as_json: JsonOption = False,
) -> None:
    """Train and measure over seeds and categories: mean and spread. Run again, it goes on where it was interrupted."""
    from simplenet_edge.data.layouts import Dataset
    from simplenet_edge.model.simplenet import SimpleNet
    from simplenet_edge.training.config import TrainConfig
    from simplenet_edge.training.recipes import prepare
    from simplenet_edge.workflows.model_choice import with_model
    from simplenet_edge.workflows.sweep import SweepCluster, find_categories
    from simplenet_edge.workflows.sweep import sweep as run_sweep
    from simplenet_edge.workflows.sweep_results import Protocol

    if protocol not in get_args(Protocol):
        raise ConfigError(f"protocol must be one of {', '.join(get_args(Protocol))}, not {protocol!r}")
    cluster = None if ray is None else SweepCluster(ray, threads, int(options.device != "cpu"))

    def prepared(dataset: Dataset, seed: int) -> tuple[SimpleNet, TrainConfig]:
        return prepare(with_model(dataset.train, options, output / dataset.name, on_message=note), seed)

    with resumable("the same command goes on with what is not finished"), progress_bars() as bars:
        result = run_sweep(
            find_categories(data),
            prepared,
            output,
            seeds=seeds,
            protocol=cast("Protocol", protocol),
            cluster=cluster,
            progress=bars.report,
            on_message=note,
        )
    if as_json:
        print_json(result.to_dict())
        return
    for table in result.tables():
        print_table(*table)
    note(f"tables: {output / 'sweep.md'}, {output / 'sweep.json'}")
