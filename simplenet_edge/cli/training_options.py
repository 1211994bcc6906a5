"""The options that say what is trained and how, shared by `train` and `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from simplenet_edge.cli.console import print_table
from simplenet_edge.cli.options import BitDepthOption, parse_layers, parse_ms, parse_seconds, parse_size
from simplenet_edge.training.options import TrainingOptions

if TYPE_CHECKING:
    from simplenet_edge.spec import ResizeRule

__all__ = ["training_options"]


def _listed(backbone: str | None) -> str | None:
    """Print the table of backbones and leave when `list` is asked for; otherwise pass the name on."""
    if backbone != "list":
        return backbone
    from simplenet_edge.model.defaults import BACKBONE_DEFAULTS

    rows: list[tuple[str, ...]] = [
        (name, ", ".join(row.layers), str(row.embed_dim), row.weights) for name, row in BACKBONE_DEFAULTS.items()
    ]
    print_table("Backbones with defaults", ("backbone", "layers", "embedding", "weights"), rows)
    raise typer.Exit


def training_options(
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            help="efficientnet_lite0 to 2, whose weights come with the package; any torchvision classifier; "
            "timm:NAME. list prints those with defaults, others need --layers. Default: efficientnet_lite0; with "
            "--recipe paper, wide_resnet50_2.",
            callback=_listed,
            is_eager=True,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Module paths with commas between, e.g. layer2,layer3 or features.6."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="State dict of --backbone; its ImageNet weights when left out."),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="A random backbone from the seed: works without a network, finds less."),
    ] = False,
    size: Annotated[
        str,
        typer.Option(
            "--size",
            help="Model input: 256, or HEIGHTxWIDTH in pixels; auto finds the smallest that shows defects drawn on "
            "the images.",
        ),
    ] = "auto",
    latency: Annotated[
        str | None,
        typer.Option(
            "--latency", help="Time per frame, such as 20ms: backbone, layers, size and memory are found within it."
        ),
    ] = None,
    latency_from: Annotated[
        Path | None,
        typer.Option("--latency-from", help="JSON of `benchmark` on the device that --latency is meant for."),
    ] = None,
    search_time: Annotated[
        str, typer.Option("--search-time", help="How long the search within --latency may take, such as 5m.")
    ] = "5m",
    resize: Annotated[
        str | None,
        typer.Option(
            "--resize",
            help="stretch to the input; letterbox: keep the aspect and repeat the edge around it; center-crop: keep "
            "the aspect and cut the middle.",
        ),
    ] = None,
    resize_to: Annotated[
        int | None, typer.Option("--resize-to", help="For center-crop: the shorter side in pixels before the cut.")
    ] = None,
    bit_depth: BitDepthOption = TrainingOptions.bit_depth,
    recipe: Annotated[
        str, typer.Option("--recipe", help="default, or paper: raw features, noise 0.015, 40 x 4 epochs.")
    ] = TrainingOptions.recipe,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Share of good parts that may be rejected, guaranteed.")
    ] = TrainingOptions.alpha,
    meta_epochs: Annotated[int | None, typer.Option("--meta-epochs", help="Meta-epochs of 4 epochs each.")] = None,
    noise_std: Annotated[
        float | None, typer.Option("--noise-std", help="Noise in units of the features' spread.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            help="Good patches to remember, at most: more find more and cost time. Default: 4000; 0 for none.",
        ),
    ] = None,
    augment: Annotated[
        int | None,
        typer.Option(
            "--augment",
            help="Extra frames per image, each in other light or moved a little, to train and calibrate on; 0 where "
            "light and place never change. Default: 1; with --recipe paper, 0.",
        ),
    ] = None,
    rotate: Annotated[
        float,
        typer.Option(
            "--rotate", help="Turn the extra frames by up to this many degrees either way; 180 for any direction."
        ),
    ] = TrainingOptions.rotate_degrees,
    group: Annotated[
        str,
        typer.Option(
            "--group",
            help="Which images show one part, so that calibration gets parts that are not trained on: auto finds them; "
            "none; folder; a pattern on the image's path, such as 'part(\\d+)_'; FILE.csv or FILE.csv:COLUMN.",
        ),
    ] = TrainingOptions.group,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="Time for features and training, such as 90s or 2m; trains as well as it can in it."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = TrainingOptions.device,
) -> TrainingOptions:
    """The options as values; their texts are read here. Raises ConfigError."""
    return TrainingOptions(
        backbone=backbone,
        layers=parse_layers(layers) if layers else None,
        weights=weights,
        random_weights=random_weights,
        size_hw=None if size == "auto" else parse_size(size),
        latency_ms=None if latency is None else parse_ms(latency),
        latency_from=latency_from,
        search_s=parse_seconds(search_time),
        resize=cast("ResizeRule | None", resize),
        resize_to=resize_to,
        bit_depth=bit_depth,
        recipe=cast("Literal['default', 'paper']", recipe),
        alpha=alpha,
        meta_epochs=meta_epochs,
        noise_std=noise_std,
        memory=memory,
        augment=augment,
        rotate_degrees=rotate,
        group=group,
        budget_s=None if budget is None else parse_seconds(budget),
        device=device,
    )
