"""What a person chooses about a training; everything else is the recipe's. Nothing heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from simplenet_edge.data.groups import check_group
from simplenet_edge.errors import ConfigError
from simplenet_edge.model.defaults import DEFAULT_BACKBONE, PAPER_BACKBONE
from simplenet_edge.spec import FULL_BIT_DEPTH, ResizeRule

__all__ = ["TrainingOptions"]


@dataclass(frozen=True)
class TrainingOptions:
    """The model and the recipe. What is None comes from the backbone's defaults or the recipe. Raises ConfigError."""

    backbone: str | None = None  # None: efficientnet_lite0, or the paper's with its recipe
    layers: tuple[str, ...] | None = None  # module paths in the backbone
    weights: Path | None = None  # state dict of the backbone; None: its ImageNet weights
    random_weights: bool = False  # a random backbone, from the seed
    size_hw: tuple[int, int] | None = None  # model input, pixels; None: found from the images
    latency_ms: float | None = None  # per frame: backbone, layers, size and memory are found within it
    latency_from: Path | None = None  # JSON of a benchmark on the device that it is meant for; None: this machine
    search_s: float = 300.0  # seconds that the search within latency_ms may take
    resize: ResizeRule | None = None  # None: center-crop with resize_to, otherwise stretch
    resize_to: int | None = None  # for center-crop: the shorter side before the cut, pixels
    bit_depth: int = FULL_BIT_DEPTH  # bits that 16-bit images use
    recipe: Literal["default", "paper"] = "default"
    alpha: float = 0.01  # share of good parts that may be rejected, guaranteed
    meta_epochs: int | None = None  # of 4 epochs each
    noise_std: float | None = None  # in units of the features' spread
    memory: int | None = None  # good patches to remember, at most; 0: none
    augment: int | None = None  # extra frames per image in other light or place; None: 1, with the paper's recipe none
    rotate_degrees: float = 0.0  # either way, for the extra frames
    group: str = "auto"  # images of one part: auto, none, folder, a pattern, FILE.csv or FILE.csv:COLUMN
    budget_s: float | None = None  # for features and training, seconds
    device: str = "cpu"  # cpu, cuda or cuda:N

    def __post_init__(self) -> None:
        if self.recipe not in ("default", "paper"):
            raise ConfigError(f"recipe must be default or paper, not {self.recipe!r}")
        if self.resize is not None and self.resize not in get_args(ResizeRule):
            raise ConfigError(f"resize must be one of {', '.join(get_args(ResizeRule))}, not {self.resize!r}")
        if self.recipe == "paper" and self.memory:
            raise ConfigError("the paper's recipe has no memory; leave --memory out, or take the default recipe")
        if self.latency_ms is not None and (self.recipe == "paper" or self.latency_ms <= 0):
            raise ConfigError("a latency must be positive, and goes with the default recipe")
        if self.latency_ms is not None and self.weights is not None and self.backbone is None:
            raise ConfigError(
                "--weights are of one backbone: name it with --backbone, to look for the rest by --latency"
            )
        if self.latency_from is not None and self.latency_ms is None:
            raise ConfigError("--latency-from says on which device --latency is meant; give both")
        if self.rotate_degrees and not self.extra_frames:
            raise ConfigError("--rotate turns the extra frames of --augment; say how many, e.g. --augment 1")
        check_group(self.group)
        if self.device != "cpu" and not re.fullmatch(r"cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be cpu, cuda or cuda:N, not {self.device!r}")

    @property
    def extra_frames(self) -> int:
        """Extra frames per image, whoever chose their number."""
        usual = 0 if self.recipe == "paper" else 1
        return usual if self.augment is None else self.augment

    @property
    def chosen_backbone(self) -> str:
        """The backbone's name, whoever chose it."""
        return self.backbone or (PAPER_BACKBONE if self.recipe == "paper" else DEFAULT_BACKBONE)
