"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:
    from simplenet_edge.data.layouts import Dataset

__all__ = ["ImageOptions", "parse_camera", "parse_ints", "parse_layers", "parse_seconds", "parse_size"]

_MOST_DIGITS = 18

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder, or one .zip file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="auto, tensorrt, tensorrt_rtx, onnxruntime-cuda, openvino, onnxruntime, or fake (for dry runs). On a CPU, "
        "auto of `run` and `serve` measures the engines and threads for a second.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", help="CPU threads of the engine, at most what the machine has; its own choice when left out."
    ),
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Which graph of a bundle.")]
BitDepthOption = Annotated[
    int,
    typer.Option("--bit-depth", help="Bits that 16-bit images use: 12 for a 12-bit camera, values up to 4095."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@dataclass(frozen=True)
class ImageOptions:
    """Which images: one of the layouts of `simplenet_edge.data.layouts.load_dataset`."""

    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Dataset in the MVTec AD layout (train/good, test/<class>), or a folder of good parts."
        ),
    ] = None
    good: Annotated[Path | None, typer.Option("--good", help="Folder with images of good parts.")] = None
    defect: Annotated[
        Path | None,
        typer.Option(
            "--defect",
            help="Folder with images of defective parts, a subfolder per class; about a fifth of --good is then kept "
            "from training, to be tested beside them.",
        ),
    ] = None
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder with the masks of --defect, under the same names.")
    ] = None
    csv: Annotated[Path | None, typer.Option("--csv", help="VisA's split file, e.g. split_csv/1cls.csv.")] = None
    category: Annotated[str | None, typer.Option("--category", help="Object to take from --csv.")] = None

    def dataset(self, *, for_training: bool = True) -> Dataset:
        """The dataset that they name, as `load_dataset` reads it. Raises ConfigError or DataError."""
        from simplenet_edge.data.layouts import load_dataset

        if self.data is None and self.good is None and self.csv is None:
            raise ConfigError("no images were named; pass --data FOLDER, --good FOLDER or --csv FILE")
        return load_dataset(
            self.data,
            good=self.good,
            defect=self.defect,
            masks=self.masks,
            csv=self.csv,
            category=self.category,
            for_training=for_training,
        )


def parse_size(text: str) -> tuple[int, int]:
    """`256` or `HEIGHTxWIDTH` as (height, width). Raises ConfigError."""
    parts = text.lower().split("x")
    if len(parts) in (1, 2) and all(_is_number(part) for part in parts):
        return int(parts[0]), int(parts[-1])
    raise ConfigError(f"expected a size such as 256 or 256x320 (height x width, pixels), found {text!r}")


def parse_seconds(text: str) -> float:
    """`90`, `90s` or `2m` as seconds. Raises ConfigError."""
    unit = {"s": 1.0, "m": 60.0}.get(text[-1:], 0.0)
    number = text[:-1] if unit else text
    try:
        seconds = float(number) * (unit or 1.0)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"expected a time such as 90s or 2m, found {text!r}")
    return seconds


def parse_ms(text: str) -> float:
    """`20`, `20ms` or `0.5s` as milliseconds. Raises ConfigError."""
    number, unit = (text[:-2], 1.0) if text.endswith("ms") else (text[:-1], 1e3) if text.endswith("s") else (text, 1.0)
    try:
        milliseconds = float(number) * unit
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < float("inf"):
        raise ConfigError(f"expected a time such as 20ms, found {text!r}")
    return milliseconds


def parse_camera(text: str) -> tuple[int, int]:
    """`1920x1080`, as cameras are named (width first), as (height, width). Raises ConfigError."""
    parts = text.lower().split("x")
    if len(parts) == 2 and all(_is_number(part) and int(part) > 0 for part in parts):
        return int(parts[1]), int(parts[0])
    raise ConfigError(f"expected a camera frame such as 1920x1080 (width x height, pixels), found {text!r}")


def parse_layers(text: str) -> tuple[str, ...]:
    """`layer2,layer3` as a tuple. Raises ConfigError."""
    layers = tuple(part.strip() for part in text.split(","))
    if not all(layers):
        raise ConfigError(f"expected layer names with commas between, such as layer2,layer3, found {text!r}")
    return layers


def parse_ints(text: str) -> tuple[int, ...]:
    """`1,4,8` as integers. Raises ConfigError."""
    parts = text.split(",")
    if all(_is_number(part.strip()) for part in parts):
        return tuple(int(part) for part in parts)
    raise ConfigError(f"expected whole numbers with commas between, such as 1,4,8, found {text!r}")


def _is_number(text: str) -> bool:
    """Whether it is a whole number, and not of so many digits that Python refuses to convert it."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS
