"""Defects of a given kind, size and contrast, drawn at a given place on images of good parts.

In and out: images uint8 `(H, W, 3)` BGR of any size. Sizes are in pixels of the image: a length or a diameter. A
contrast is a share of the full scale: 0.1 is 25 grey levels, wherever the image is dark or light. Where that would be
cut off at black or white, dark becomes light and light dark. The generator decides the rest: direction, outline, sign.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.drawn_defects import blended

__all__ = ["SIZED_KINDS", "draw_sized"]

SIZED_KINDS = ("scratch", "spot", "dent", "missing", "added")
"""A straight thin line; a round spot; a disc that is light on one side and dark on the other; a ragged flat hole; a
ragged piece with the texture of another place."""

_WIDTH = 1 / 15  # of a scratch, as a share of its length; at least a pixel
_RIM_PX = 2  # around a defect, for its soft edge

_Grid = npt.NDArray[np.float32]


def draw_sized(
    rng: np.random.Generator,
    image: Frames,
    kind: str,
    size_px: float,
    contrast: float,
    place_xy: tuple[float, float],
) -> Frames:
    """The image with one defect around `place_xy`, in pixels; what lies outside the image is cut off."""
    height, width = image.shape[:2]
    reach = math.ceil(size_px / 2) + _RIM_PX
    (left, right), (top, bottom) = (
        (max(0, math.floor(at) - reach), min(side, math.floor(at) + reach + 1))
        for at, side in zip(place_xy, (width, height), strict=True)
    )
    piece = image[top:bottom, left:right]
    dx = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(place_xy[0])
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(place_xy[1])
    angle = rng.uniform(0, 2 * math.pi)
    along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    radius = size_px / 2
    shade: _Grid | float = 255 * contrast
    surface: npt.NDArray[np.float64] = piece.astype(np.float64)
    if kind == "scratch":
        half_width = max(1.0, size_px * _WIDTH) / 2
        beyond = np.maximum(np.abs(along) - (radius - half_width), 0)
        mask = _soft(half_width - np.hypot(beyond, across))
        shade *= rng.choice([-1, 1])
    elif kind == "spot":
        mask = _soft(radius - np.hypot(dx, dy))
        shade *= rng.choice([-1, 1])
    elif kind == "dent":
        mask = _soft(radius - np.hypot(dx, dy))
        shade = shade * np.clip(along / radius, -1, 1)[..., None]
    elif kind in ("missing", "added"):
        mask = _soft(radius * _outline(rng, np.arctan2(dy, dx)) - np.hypot(dx, dy))
        if kind == "missing":
            surface[:] = _mean(surface, mask)
            shade = -shade
        else:
            to_y, to_x = rng.integers(0, height - piece.shape[0] + 1), rng.integers(0, width - piece.shape[1] + 1)
            surface = image[to_y : to_y + piece.shape[0], to_x : to_x + piece.shape[1]].astype(np.float64)
    else:
        raise ValueError(f"no defect is called {kind!r}; there are {', '.join(SIZED_KINDS)}")
    if isinstance(shade, float) and not 0 <= _mean(surface, mask).mean() + shade <= 255:
        shade = -shade
    changed: Frames = image.copy()
    changed[top:bottom, left:right] = blended(piece, mask, surface + shade)
    return changed


def _soft(inside_px: npt.NDArray[np.floating]) -> _Grid:
    """How much of each pixel is covered, from its distance inside the edge."""
    return np.asarray(np.clip(inside_px + 0.5, 0, 1), np.float32)


def _outline(rng: np.random.Generator, angle: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The radius of a ragged blob in each direction, at most 1."""
    waves = [(k, rng.uniform(0, 0.2 / k), rng.uniform(0, 2 * math.pi)) for k in (2, 3, 5)]
    radius = 1 + sum(height * np.cos(k * angle + phase) for k, height, phase in waves)
    return np.asarray(radius / (1 + sum(height for _, height, _ in waves)))


def _mean(surface: npt.NDArray[np.float64], mask: _Grid) -> npt.NDArray[np.float64]:
    """The mean colour `(3,)` under a mask."""
    weights = mask + 1e-6
    return np.asarray((surface * weights[..., None]).sum((0, 1)) / weights.sum())
