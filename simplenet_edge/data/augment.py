"""Extra frames for a fixed camera: a part in other light, or one that lies a little off.

In and out: model frames uint8 `(H, W, 3)` BGR. Nothing a part isn't made of is drawn: what a shift or a turn uncovers
is filled by mirroring the frame at its edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import Frames

__all__ = ["AugmentConfig", "augment", "augmented_frames", "extra_frames"]


@dataclass(frozen=True)
class AugmentConfig:
    """How far the extra frames of an image go. Each has one change, drawn evenly from its range, to either side."""

    copies: int = 1  # frames per image, beside the image itself
    brightness: float = 0.3  # share of every pixel's value
    gamma: float = 0.25  # exponents from 1 / (1 + gamma) to 1 + gamma
    gradient: float = 0.15  # brighter at one end of the frame and darker at the other, in any direction
    shift: float = 0.02  # share of the frame's height and width, together with a turn by
    tilt_degrees: float = 2.0
    rotate_degrees: float = 0.0  # of every extra frame besides; 180 for a part that may lie in any direction

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"copies must be at least 1, not {self.copies}; leave augmentation out for none")
        ranges = {"brightness": 0.9, "gamma": 4.0, "gradient": 0.9, "shift": 0.5}
        for name, most in {**ranges, "tilt_degrees": 180.0, "rotate_degrees": 180.0}.items():
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be within 0..{most:g}, not {getattr(self, name)}")
        if not self.kinds and self.rotate_degrees == 0:
            raise ConfigError("augmentation that changes nothing; give one of its changes a range")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The changes of which each extra frame has one."""
        ranges = {
            "brightness": self.brightness,
            "gamma": self.gamma,
            "gradient": self.gradient,
            "place": max(self.shift, self.tilt_degrees),
        }
        return tuple(kind for kind, most in ranges.items() if most > 0)


def augmented_frames(frames: Iterable[Frames], config: AugmentConfig, seed: int) -> Iterator[Frames]:
    """Each frame uint8 `(H, W, 3)`, followed by its `config.copies` extra ones."""
    for position, frame in enumerate(frames):
        yield frame
        yield from extra_frames(frame, config, (seed, position))


def extra_frames(frame: Frames, config: AugmentConfig, key: Sequence[int]) -> list[Frames]:
    """The extra frames of one image; they depend on the numbers in `key` only."""
    rng = np.random.default_rng(key)
    return [augment(frame, config, rng) for _ in range(config.copies)]


def augment(frame: Frames, config: AugmentConfig, rng: np.random.Generator) -> Frames:
    """One extra frame of `frame`, both uint8 `(H, W, 3)`; shifts are whole pixels, so that only turning blurs."""
    kind = str(rng.choice(config.kinds)) if config.kinds else ""
    moved = _moved(frame, config, rng, kind == "place")
    if kind == "brightness":
        return _rounded(moved * (1 + rng.uniform(-config.brightness, config.brightness)))
    if kind == "gamma":
        most = math.log1p(config.gamma)
        return _rounded(255 * (moved / 255.0) ** math.exp(rng.uniform(-most, most)))
    if kind == "gradient":
        height, width = frame.shape[:2]
        angle, most = rng.uniform(0, 2 * math.pi), rng.uniform(0, config.gradient)
        slope = np.linspace(-1, 1, width) * math.cos(angle) + np.linspace(-1, 1, height)[:, None] * math.sin(angle)
        return _rounded(moved * (1 + most * slope)[..., None])
    return moved


def _moved(frame: Frames, config: AugmentConfig, rng: np.random.Generator, shifted: bool) -> Frames:
    height, width = frame.shape[:2]
    turn = config.rotate_degrees + (config.tilt_degrees if shifted else 0.0)
    most_x, most_y = (round(config.shift * side) if shifted else 0 for side in (width, height))
    if turn == most_x == most_y == 0:
        return frame
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(-turn, turn), 1.0)
    matrix[:, 2] += rng.integers(-most_x, most_x, endpoint=True), rng.integers(-most_y, most_y, endpoint=True)
    moved = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def _rounded(values: npt.NDArray[np.floating[Any]]) -> Frames:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
