"""The options that say what is trained and how, shared by `train` and `sweep`, and what they become."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from simplenet_edge.cli.console import print_table
from simplenet_edge.cli.options import parse_layers, parse_seconds, parse_size
from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import ResizeRule

if TYPE_CHECKING:
    from simplenet_edge.model.simplenet import SimpleNet
    from simplenet_edge.training.config import TrainConfig

__all__ = ["prepared"]


def _listed(backbone: str) -> str:
    """Print the table of backbones and leave when `list` is asked for; otherwise pass the name on."""
    if backbone != "list":
        return backbone
    from simplenet_edge.model.defaults import BACKBONE_DEFAULTS

    rows: list[tuple[str, ...]] = [
        (name, ", ".join(row.layers), str(row.embed_dim), str(row.hidden), str(row.input_side))
        for name, row in BACKBONE_DEFAULTS.items()
    ]
    print_table("Backbones with defaults", ("backbone", "layers", "embedding", "discriminator", "input"), rows)
    raise typer.Exit


BackboneOption = Annotated[
    str,
    typer.Option(
        "--backbone",
        help="Any torchvision classifier; list prints those with defaults, others need --layers.",
        callback=_listed,
        is_eager=True,
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", help="Time for features and training, such as 90s or 2m; trains as well as it can in it."),
]
LayersOption = Annotated[
    str | None,
    typer.Option("--layers", help="Module paths with commas between, e.g. layer2,layer3 or features.6."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights", help="State dict of the backbone; torchvision's ImageNet weights when left out."),
]
RandomWeightsOption = Annotated[
    bool,
    typer.Option("--random-weights", help="A random backbone from the seed: works without a network, finds less."),
]
SizeOption = Annotated[str | None, typer.Option("--size", help="Model input: 256, or HEIGHTxWIDTH in pixels.")]
ResizeOption = Annotated[
    str | None,
    typer.Option(
        "--resize",
        help="stretch to the input; letterbox: keep the aspect and repeat the edge around it; center-crop: keep the "
        "aspect and cut the middle.",
    ),
]
ResizeToOption = Annotated[
    int | None,
    typer.Option("--resize-to", help="For center-crop: the shorter side in pixels before the cut."),
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="default, or paper: raw features, noise 0.015, 40 x 4 epochs.")
]
AlphaOption = Annotated[
    float,
    typer.Option("--alpha", help="Share of good parts that may be rejected, guaranteed."),
]
MetaEpochsOption = Annotated[int | None, typer.Option("--meta-epochs", help="Meta-epochs of 4 epochs each.")]
NoiseOption = Annotated[float | None, typer.Option("--noise-std", help="Noise in units of the features' spread.")]
MemoryOption = Annotated[
    int | None,
    typer.Option(
        "--memory", help="Good patches to remember, at most: more find more and cost time. Default: 4000; 0 for none."
    ),
]
AugmentOption = Annotated[
    int,
    typer.Option("--augment", help="Extra frames an image, shifted and brighter or darker; 0 for none."),
]
RotateOption = Annotated[
    float,
    typer.Option("--rotate", help="Turn the extra frames by up to so many degrees either way; 180 for any direction."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu or cuda.")]


def prepared(
    seed: int,
    *,
    backbone: str,
    layers: str | None,
    weights: Path | None,
    random_weights: bool,
    size: str | None,
    resize: str | None,
    resize_to: int | None,
    recipe: str,
    alpha: float,
    meta_epochs: int | None,
    noise_std: float | None,
    memory: int | None,
    augment: int,
    rotate: float,
    device: str,
    budget: str | None = None,
) -> tuple[SimpleNet, TrainConfig]:
    """The untrained model on its device and its recipe. Raises ConfigError or WeightsError."""
    import torch

    from simplenet_edge.data.augment import AugmentConfig
    from simplenet_edge.model.build import build_simplenet
    from simplenet_edge.training.config import TrainConfig, paper_recipe

    if recipe not in ("default", "paper"):
        raise ConfigError(f"recipe must be default or paper, not {recipe!r}")
    if resize is not None and resize not in get_args(ResizeRule):
        raise ConfigError(f"resize must be one of {', '.join(get_args(ResizeRule))}, not {resize!r}")
    if recipe == "paper" and memory:
        raise ConfigError("the paper's recipe has no memory; leave --memory out, or take the default recipe")
    if rotate and not augment:
        raise ConfigError("--rotate turns the extra frames of --augment; say how many, e.g. --augment 1")
    if device != "cpu" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise ConfigError(f"device must be cpu, cuda or cuda:N, not {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is usable here; leave --device out to train on the CPU")
    model = build_simplenet(
        backbone,
        layers=parse_layers(layers) if layers else None,
        weights=weights,
        random_weights=random_weights,
        size_hw=parse_size(size) if size else None,
        resize=cast("ResizeRule | None", resize),
        resize_to=resize_to,
        standardize=recipe != "paper",
        memory_size=memory,
        seed=seed,
    )
    config = TrainConfig(alpha=alpha, seed=seed)
    if recipe == "paper":
        config = paper_recipe(config, model.grid_hw)
    if meta_epochs is not None:
        config = dataclasses.replace(config, meta_epochs=meta_epochs)
    if noise_std is not None:
        config = dataclasses.replace(config, noise_std=noise_std)
    if augment:
        config = dataclasses.replace(config, augment=AugmentConfig(augment, rotate_degrees=rotate))
    if budget is not None:
        config = dataclasses.replace(config, budget_s=parse_seconds(budget))
    return model.to(device), config
