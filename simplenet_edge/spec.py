"""The configurations and the input/output contract that everything else agrees on. No heavy imports.

A model reads `frames`, uint8 `(B, H, W, 3)` in BGR order, and gives `score`, float32 `(B,)`, and `map`, float32
`(B, H, W)`. Scores and maps are raw: unbounded, larger means more anomalous. H and W are fixed in a model, B is free.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:  # not at run time: `doctor` starts where numpy doesn't load
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Alignment",
    "Frames",
    "InputSpec",
    "OperatingPoint",
    "Prediction",
    "Predictor",
    "ResizeRule",
    "ScoreStatistics",
    "SimpleNetConfig",
    "from_dict",
    "to_dict",
]

Frames: TypeAlias = "npt.NDArray[np.uint8]"
"""Camera or model frames: uint8, `(H, W, 3)` or `(B, H, W, 3)`, BGR."""

ResizeRule = Literal["stretch", "letterbox", "center-crop"]
Alignment = Literal["half-pixel", "receptive-field"]

_MAX_SIZE = 65536  # of what a configuration counts: channels, layers, patches
_MAX_MEMORY = 10_000_000  # patches
IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of RGB in [0, 1] that torchvision's ImageNet weights were trained with."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of RGB in [0, 1] that torchvision's ImageNet weights were trained with."""


FULL_BIT_DEPTH = 16
"""Bits that a 16-bit image uses where nothing else is said."""


class Prediction(NamedTuple):
    """What a model says about a batch: `score` float32 `(B,)`, `map` float32 `(B, H, W)`; larger = more anomalous."""

    score: npt.NDArray[np.float32]
    map: npt.NDArray[np.float32]


class Predictor(Protocol):
    """Anything that scores model frames: an engine, or the PyTorch model."""

    def predict(self, frames: Frames) -> Prediction:
        """Scores `(B,)` and maps `(B, H, W)` of model frames uint8 `(B, H, W, 3)` BGR."""
        ...


@dataclass(frozen=True)
class InputSpec:
    """How a camera frame becomes a model frame."""

    height: int
    width: int
    # stretch: to (height, width) whatever the aspect. letterbox: by one factor until it just fits, the edge pixels
    # repeated into the rest. center-crop: the shorter side to resize_to, then cut from the middle, as the paper does.
    resize: ResizeRule = "stretch"
    resize_to: int | None = None  # pixels; with center-crop only
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in [0, 1]; applied inside the graph
    std: tuple[float, float, float] = IMAGENET_STD  # the same
    bit_depth: int = FULL_BIT_DEPTH  # bits used of 16-bit images: 12 where values end at 4095; their upper 8 are kept

    def __post_init__(self) -> None:
        if self.bit_depth not in range(8, FULL_BIT_DEPTH + 1):
            raise ConfigError(f"bit_depth must be a whole number within 8..{FULL_BIT_DEPTH}, not {self.bit_depth}")
        if not (8 <= self.height <= 8192 and 8 <= self.width <= 8192):
            raise ConfigError(f"input size must be within 8..8192 pixels, not {self.height}x{self.width}")
        if self.resize not in get_args(ResizeRule):
            raise ConfigError(f"resize must be one of {', '.join(get_args(ResizeRule))}, not {self.resize!r}")
        if self.resize == "center-crop":
            if self.resize_to is None or self.resize_to < max(self.height, self.width):
                raise ConfigError(
                    "center-crop needs resize_to, the shorter side in pixels before the cut, at least "
                    f"{max(self.height, self.width)}; it is {self.resize_to}"
                )
        elif self.resize_to is not None:
            raise ConfigError("resize_to goes with resize='center-crop' only")
        if min(self.std) <= 0:
            raise ConfigError(f"std must be positive, not {self.std}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of a model frame in pixels."""
        return self.height, self.width


@dataclass(frozen=True)
class SimpleNetConfig:
    """The architecture of a SimpleNet; with the weights it is the whole model.

    Names follow the official code (DonaldRR/SimpleNet). The memory, the score's mean and the alignment by receptive
    fields are not in the paper.
    """

    backbone: str  # a torchvision model
    layers: tuple[str, ...]  # module paths whose feature maps are used, e.g. layer2
    pretrain_embed_dim: int = 1536  # channels of each layer after pooling
    target_embed_dim: int = 1536  # channels after the layers are joined
    patch_size: int = 3  # cells of a patch's side
    patch_stride: int = 1
    standardize: bool = True  # features by their mean and standard deviation over good patches
    projection_layers: int = 1  # 0 leaves the projection out
    projection_type: int = 0  # 0 linear, 1 with batch norm, 2 with batch norm and LeakyReLU between the layers
    projection_batch_norm: bool = True  # False is what the official code does for types 1 and 2
    discriminator_layers: int = 2
    discriminator_hidden: int | None = 1024  # None shrinks each hidden layer by 1.5
    discriminator_bias: bool = False  # of the output layer; the official code leaves it out
    smoothing_sigma: float = 4.0  # of the anomaly map, in pixels of the input
    score_top_k: int = 1  # the score is the mean of this many largest patch scores; officially 1, the maximum
    alignment: Alignment = "half-pixel"  # cells spread evenly, as officially; or receptive-field: where they look
    memory_size: int = 0  # remembered patches, to the nearest of which the distance adds to the score; 0 for none
    memory_dim: int = 64  # principal components that the distance is measured on
    memory_stride: int = 2  # of the patches that it is measured for, on each axis

    def __post_init__(self) -> None:
        if not self.layers:
            raise ConfigError("at least one layer of the backbone is needed")
        if len(set(self.layers)) != len(self.layers):
            raise ConfigError(f"a layer is named twice: {', '.join(self.layers)}")
        if not 1 <= self.patch_size < _MAX_SIZE or self.patch_size % 2 == 0:
            raise ConfigError(f"patch_size must be odd and positive, below {_MAX_SIZE}, not {self.patch_size}")
        for name in (
            *("pretrain_embed_dim", "target_embed_dim", "patch_stride", "discriminator_layers"),
            *("memory_dim", "memory_stride"),
        ):
            if not 1 <= getattr(self, name) <= _MAX_SIZE:
                raise ConfigError(f"{name} must be at least 1, at most {_MAX_SIZE}, not {getattr(self, name)}")
        if self.discriminator_hidden is not None and self.discriminator_hidden < 1:
            raise ConfigError(f"discriminator_hidden must be at least 1, not {self.discriminator_hidden}")
        if self.projection_layers < 0:
            raise ConfigError(f"projection_layers must be at least 0, not {self.projection_layers}")
        if not 1 <= self.score_top_k <= _MAX_MEMORY:
            raise ConfigError(f"score_top_k must be at least 1, at most {_MAX_MEMORY}, not {self.score_top_k}")
        if not 0 <= self.memory_size <= _MAX_MEMORY:
            raise ConfigError(f"memory_size must be at least 0, at most {_MAX_MEMORY}, not {self.memory_size}")
        if self.memory_size > 0 and not self.standardize:
            raise ConfigError("a memory measures distances on standardised features; set memory_size to 0")
        if self.memory_size > 0 and self.memory_dim > self.target_embed_dim:
            raise ConfigError(
                f"memory_dim must be at most the {self.target_embed_dim} of target_embed_dim, not {self.memory_dim}"
            )
        if self.projection_type not in (0, 1, 2):
            raise ConfigError(f"projection_type must be 0, 1 or 2, not {self.projection_type}")
        if not (math.isfinite(self.smoothing_sigma) and self.smoothing_sigma >= 0):
            raise ConfigError(f"smoothing_sigma must be at least 0, not {self.smoothing_sigma}")
        if self.alignment not in get_args(Alignment):
            raise ConfigError(f"alignment must be one of {', '.join(get_args(Alignment))}, not {self.alignment!r}")


@dataclass(frozen=True)
class OperatingPoint:
    """The thresholds on the raw score and the raw map, and what is guaranteed of them.

    A part is NG when `score > threshold`. When `guaranteed`, at most a share `alpha` of good parts is rejected, on
    average over calibration sets, as long as the line makes parts like the `n_calibration` good ones
    (split-conformal; Vovk et al. 2005, Angelopoulos & Bates 2021). `pixel_threshold` marks regions: where
    `map > pixel_threshold` a pixel counts as defective, and the same share of good parts at most has any such pixel.
    None where the maps of the calibration images were not kept. It never decides about a part.

    `n_parts` is how many parts the calibration images show, which is what the guarantee rests on; None where each shows
    another one. With several images a part an image of a new part is rejected with probability at most `alpha`.
    `folds` is of how many other models the scores are where images were few: each is of a model that had not seen the
    part (cross-conformal; Vovk 2015), nothing is guaranteed of this one, and 2 `alpha` would be of their vote.
    """

    threshold: float
    alpha: float
    n_calibration: int
    guaranteed: bool
    pixel_threshold: float | None = None
    n_parts: int | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):  # nothing is larger than NaN: every part would pass
            raise ConfigError(f"the threshold must be a finite number, not {self.threshold}")
        if self.pixel_threshold is not None and not math.isfinite(self.pixel_threshold):
            raise ConfigError(f"the pixel threshold must be a finite number or null, not {self.pixel_threshold}")


@dataclass(frozen=True)
class ScoreStatistics:
    """Raw scores of the good calibration images: what normal looks like, for drift alarms and for colour scales."""

    n: int
    mean: float
    std: float
    min: float
    median: float
    max: float


_T = TypeVar("_T")


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen configuration as plain JSON values (tuples become lists).

    A full `bit_depth`, and `n_parts` and `folds` of None, are left out: versions that don't know them read what has the
    default.
    """
    values = {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }
    if values.get("bit_depth") == FULL_BIT_DEPTH:
        del values["bit_depth"]
    for name in ("n_parts", "folds"):
        if values.get(name, 0) is None:
            del values[name]
    return values


def from_dict(kind: type[_T], values: dict[str, Any]) -> _T:
    """The configuration that `to_dict` wrote.

    Raises ConfigError for keys missing or unknown, and for values that are not of the field's type: a number must be
    finite, and true is no number.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{kind.__name__}: expected an object, found {type(values).__name__}")
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{kind.__name__}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        config = kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error
    for name, expected in get_type_hints(kind).items():
        if not _is_a(getattr(config, name), expected):
            raise ConfigError(f"{kind.__name__}: {name} must be {_name(expected)}, not {getattr(config, name)!r}")
    return config


def _is_a(value: Any, expected: Any) -> bool:
    """Whether a value that came from JSON is of the type of a field."""
    origin, parts = get_origin(expected), get_args(expected)
    if expected is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_is_a(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple) or (parts[1:] != (...,) and len(value) != len(parts)):
            return False
        return all(_is_a(v, parts[0] if parts[1:] == (...,) else parts[i]) for i, v in enumerate(value))
    if origin is dict:
        return isinstance(value, dict) and all(_is_a(k, parts[0]) and _is_a(v, parts[1]) for k, v in value.items())
    if expected is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is expected


def _name(expected: Any) -> str:
    return expected.__name__ if isinstance(expected, type) else str(expected).replace("typing.", "")
