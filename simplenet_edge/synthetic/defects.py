"""What three defects do to a machined face: nothing here knows the part, the light or the camera.

In: a generator, the side of a square grid and a place (x, y) on it. Out: a `Damage` on that grid. Lengths and heights
are in grid points, so slopes have no unit; sizes are shares of the side, which the picture of the part fills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Damage", "Field", "Mask", "dent", "outline", "scratch", "stain"]

Field = npt.NDArray[np.float32]
"""Values on a grid: float32 `(H, W)`, or `(H, W, 3)` BGR where it says so."""

Mask = npt.NDArray[np.bool_]
"""True where a picture shows a defect: bool `(H, W)`."""

_OIL_BGR = np.asarray([1.0, 0.84, 0.68], np.float32)  # optical density of a film of oil, blue = 1


@dataclass(frozen=True)
class Damage:
    """A defect as a change of the surface: `height` `(H, W)` is added, `reflectance` `(H, W, 3)` BGR multiplies."""

    height: Field
    reflectance: Field


def scratch(rng: np.random.Generator, side: int, place_xy: tuple[float, float]) -> Damage:
    """A groove with raised lips along a shallow arc through `place_xy`, of changing depth."""
    length = side * rng.uniform(0.09, 0.26)
    along, across = _arc(rng, side, place_xy, length, bend=length * rng.uniform(1.2, 5.0))
    width = side * rng.uniform(0.0020, 0.0034)
    groove = np.exp(-((across / width) ** 2))
    lips = np.exp(-(((np.abs(across) - 1.9 * width) / (0.8 * width)) ** 2))
    height = width * rng.uniform(0.25, 0.60) * _wander(rng, along) * (0.35 * lips - groove)
    # Dirt darkens the groove, freshly bared metal brightens it.
    tone = rng.uniform(-0.42, -0.20) if rng.random() < 0.5 else rng.uniform(0.18, 0.36)
    return Damage(_field(height), _grey(1 + tone * _wander(rng, along) * groove))


def dent(rng: np.random.Generator, side: int, place_xy: tuple[float, float]) -> Damage:
    """An uneven oval crater with a low rim at `place_xy`."""
    radius = side * rng.uniform(0.012, 0.027)
    distance = _oval(rng, side, place_xy, radius, ragged=0.10)
    crater = np.exp(-(distance**2.6))
    rim = np.exp(-(((distance - 1.5) / 0.4) ** 2))
    height = radius * rng.uniform(0.13, 0.30) * (0.15 * rim - crater)
    return Damage(_field(height), _grey(1 - rng.uniform(0.08, 0.18) * crater))


def stain(rng: np.random.Generator, side: int, place_xy: tuple[float, float]) -> Damage:
    """A film of oil with a soft ragged edge at `place_xy`, thicker along the edge, where it dried last."""
    radius = side * rng.uniform(0.022, 0.055)
    distance = _oval(rng, side, place_xy, radius, ragged=0.30)
    film = 1 / (1 + np.exp(np.minimum((distance - 1) / rng.uniform(0.07, 0.22), 30)))
    edge = np.exp(-(((distance - 0.85) / 0.2) ** 2))
    unevenness = np.maximum(0.8 + 0.35 * edge + 0.25 * _clouds(rng, side, radius * 0.6), 0)
    density = rng.uniform(0.20, 0.55) * film * unevenness
    return Damage(np.zeros((side, side), np.float32), _field(np.exp(-density[:, :, None] * _OIL_BGR)))


def outline(visible: Mask) -> Mask:
    """What an inspector would mark: the gaps between visible pixels filled, stray ones left out."""
    size = visible.shape[0]
    closed = cv2.morphologyEx(visible.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    keep = stats[:, cv2.CC_STAT_AREA] > 8 * (size / 320) ** 2
    keep[0] = False  # the background
    return np.asarray(keep[labels])


def _arc(
    rng: np.random.Generator, side: int, place_xy: tuple[float, float], length: float, bend: float
) -> tuple[Field, Field]:
    """Coordinates of each grid point beside an arc of radius `bend`: along it (0 to 1 on the arc) and across it."""
    direction = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(direction), math.sin(direction)
    dx, dy = _offsets(side, (place_xy[0] + bend * cos, place_xy[1] + bend * sin))
    along = np.arctan2(dy * cos - dx * sin, -dx * cos - dy * sin) * (bend / length) + 0.5
    turns, phase, sway = rng.uniform(0.6, 1.6), rng.uniform(0, 2 * math.pi), length * rng.uniform(0.003, 0.015)
    across = np.hypot(dx, dy) - bend + sway * np.sin(2 * math.pi * turns * along + phase)
    return _field(along), _field(across)


def _wander(rng: np.random.Generator, along: Field, knots: int = 9) -> Field:
    """A factor from 0 to 1 that changes along a line and fades out at its ends."""
    factors = rng.uniform(0.45, 1.0, knots)
    factors[[0, -1]] = 0
    return _field(np.interp(along, np.linspace(0, 1, knots), factors))


def _oval(rng: np.random.Generator, side: int, place_xy: tuple[float, float], radius: float, ragged: float) -> Field:
    """The distance of each grid point from `place_xy`, 1 on the ragged outline of an oval of about `radius`."""
    angle, stretch = rng.uniform(0, math.pi), rng.uniform(1.0, 1.25)
    dx, dy = _offsets(side, place_xy)
    major = (dx * math.cos(angle) + dy * math.sin(angle)) / stretch
    minor = (dy * math.cos(angle) - dx * math.sin(angle)) * stretch
    return _field(np.hypot(major, minor) / radius * np.exp(ragged * _clouds(rng, side, radius)))


def _clouds(rng: np.random.Generator, side: int, grain: float) -> Field:
    """Smooth noise of unit variance; its blots are about `grain` grid points wide, with finer ones among them."""
    total = np.zeros((side, side), np.float32)
    for weight, width in ((0.85, grain), (0.53, grain / 2.5)):
        cells = max(8, math.ceil(3 * side / width))
        noise = cv2.GaussianBlur(rng.standard_normal((cells, cells), np.float32), (0, 0), 1.6)
        total += weight * cv2.resize(noise / noise.std(), (side, side), interpolation=cv2.INTER_CUBIC)
    return total


def _offsets(side: int, origin_xy: tuple[float, float]) -> tuple[Field, Field]:
    steps = np.arange(side, dtype=np.float32)
    return steps[None, :] - np.float32(origin_xy[0]), steps[:, None] - np.float32(origin_xy[1])


def _grey(factor: npt.NDArray[np.floating]) -> Field:
    return np.repeat(_field(factor)[:, :, None], 3, axis=2)


def _field(values: npt.NDArray[np.floating]) -> Field:
    return np.asarray(values, np.float32)
