"""The command that trains and measures over seeds and categories. It needs PyTorch, and loads it only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars
from simplenet_edge.cli.options import JsonOption
from simplenet_edge.cli.training_options import (
    AlphaOption,
    AugmentOption,
    BackboneOption,
    BudgetOption,
    DeviceOption,
    LayersOption,
    MemoryOption,
    MetaEpochsOption,
    NoiseOption,
    RandomWeightsOption,
    RecipeOption,
    ResizeOption,
    ResizeToOption,
    RotateOption,
    SizeOption,
    WeightsOption,
    prepared,
)
from simplenet_edge.errors import ConfigError
from simplenet_edge.model.defaults import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from simplenet_edge.model.simplenet import SimpleNet
    from simplenet_edge.training.config import TrainConfig

__all__ = ["COMMANDS"]


def sweep(
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
    backbone: BackboneOption = DEFAULT_BACKBONE,
    layers: LayersOption = None,
    weights: WeightsOption = None,
    random_weights: RandomWeightsOption = False,
    size: SizeOption = None,
    resize: ResizeOption = None,
    resize_to: ResizeToOption = None,
    recipe: RecipeOption = "default",
    alpha: AlphaOption = 0.01,
    meta_epochs: MetaEpochsOption = None,
    noise_std: NoiseOption = None,
    memory: MemoryOption = None,
    augment: AugmentOption = 0,
    rotate: RotateOption = 0.0,
    budget: BudgetOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train and measure over seeds and categories: mean and spread. Run again, it goes on where it was interrupted."""
    from simplenet_edge.workflows.sweep import find_categories
    from simplenet_edge.workflows.sweep import sweep as run_sweep
    from simplenet_edge.workflows.sweep_results import Protocol

    if protocol not in get_args(Protocol):
        raise ConfigError(f"protocol must be one of {', '.join(get_args(Protocol))}, not {protocol!r}")
    datasets = find_categories(data)

    def prepare(seed: int) -> tuple[SimpleNet, TrainConfig]:
        return prepared(
            seed,
            backbone=backbone,
            layers=layers,
            weights=weights,
            random_weights=random_weights,
            size=size,
            resize=resize,
            resize_to=resize_to,
            recipe=recipe,
            alpha=alpha,
            meta_epochs=meta_epochs,
            noise_std=noise_std,
            memory=memory,
            augment=augment,
            rotate=rotate,
            budget=budget,
            device=device,
        )

    with progress_bars() as bars:
        result = run_sweep(
            datasets,
            prepare,
            output,
            seeds=seeds,
            protocol=cast("Protocol", protocol),
            progress=bars.report,
            on_message=note,
        )
    if as_json:
        print_json(result.to_dict())
        return
    for table in result.tables():
        print_table(*table)
    note(f"tables: {output / 'sweep.md'}, {output / 'sweep.json'}")


COMMANDS = (sweep,)
