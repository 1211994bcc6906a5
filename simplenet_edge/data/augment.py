"""Extra training frames for a fixed camera: a part that lies a little off, in light a little brighter or darker.

In and out: model frames uint8 `(H, W, 3)` BGR. Nothing a part isn't made of is drawn: what a shift or a turn uncovers
is filled by mirroring the frame at its edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import Frames

__all__ = ["AugmentConfig", "augment", "augmented_frames"]


@dataclass(frozen=True)
class AugmentConfig:
    """How far the extra frames of an image go: each draws evenly from these ranges, to either side."""

    copies: int = 1  # frames per image, beside the image itself
    shift: float = 0.02  # share of the frame's height and width
    brightness: float = 0.1  # share of every pixel's value
    rotate_degrees: float = 0.0  # 180 for a part that may lie in any direction

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ConfigError(f"copies must be at least 1, not {self.copies}; leave augmentation out for none")
        for name, most in (("shift", 0.5), ("brightness", 0.9), ("rotate_degrees", 180.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be within 0..{most:g}, not {getattr(self, name)}")
        if self.shift == self.brightness == self.rotate_degrees == 0:
            raise ConfigError("augmentation that changes nothing; give shift, brightness or rotate_degrees a range")


def augmented_frames(frames: Iterable[Frames], config: AugmentConfig, seed: int) -> Iterator[Frames]:
    """Each frame uint8 `(H, W, 3)`, followed by its `config.copies` extra ones.

    The extra frames of an image depend on `seed` and its position only.
    """
    for position, frame in enumerate(frames):
        yield frame
        rng = np.random.default_rng((seed, position))
        for _ in range(config.copies):
            yield augment(frame, config, rng)


def augment(frame: Frames, config: AugmentConfig, rng: np.random.Generator) -> Frames:
    """One extra frame of `frame`, both uint8 `(H, W, 3)`; shifts are whole pixels, so that only turning blurs."""
    height, width = frame.shape[:2]
    most_x, most_y = round(config.shift * width), round(config.shift * height)
    degrees = rng.uniform(-config.rotate_degrees, config.rotate_degrees)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += rng.integers(-most_x, most_x, endpoint=True), rng.integers(-most_y, most_y, endpoint=True)
    moved = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    gain = 1 + rng.uniform(-config.brightness, config.brightness)
    return np.asarray(np.clip(np.rint(moved * gain), 0, 255), np.uint8)
