"""Defects drawn on images of good parts, to judge a recipe without any image of a real defect.

In and out: frames uint8 `(H, W, 3)`, and the random generator that decides place, size and strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.spec import Frames

__all__ = ["KINDS"]


def pasted(rng: np.random.Generator, frame: Frames) -> Frames:
    """A piece of the image in another place, a little brighter or darker (CutPaste; Li et al. 2021)."""
    height, width = frame.shape[:2]
    area, ratio = height * width * rng.uniform(0.004, 0.03), math.exp(rng.uniform(-1, 1))
    h, w = (min(side // 2, max(6, round(math.sqrt(area * r)))) for side, r in ((height, ratio), (width, 1 / ratio)))
    (y, to_y), (x, to_x) = rng.integers(0, height - h, 2), rng.integers(0, width - w, 2)
    changed: Frames = frame.copy()
    changed[to_y : to_y + h, to_x : to_x + w] = np.clip(frame[y : y + h, x : x + w] * rng.uniform(0.85, 1.15), 0, 255)
    return changed


def scarred(rng: np.random.Generator, frame: Frames) -> Frames:
    """A thin turned strip of the image in another place."""
    height, width = frame.shape[:2]
    box = ((rng.uniform(0, width), rng.uniform(0, height)), (rng.uniform(12, 50), rng.uniform(2, 5)))
    corners = cv2.boxPoints((*box, rng.uniform(0, 180)))
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.round(corners * 8).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=3)
    moved = np.roll(frame, (rng.integers(height), rng.integers(width)), (0, 1)) * rng.uniform(0.75, 1.25)
    return blended(frame, mask, moved)


def stained(rng: np.random.Generator, frame: Frames) -> Frames:
    """A ragged blot, brighter or darker by 8 to 25 %."""
    height, width = frame.shape[:2]
    cells = int(rng.integers(6, 12))
    noise = cv2.resize(rng.standard_normal((cells, cells), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width]
    spread = rng.uniform(8, 35)
    distance = (y - rng.integers(height)) ** 2 + (x - rng.integers(width)) ** 2
    blot = np.exp(-distance / (2 * spread**2)) * (1 + 0.5 * noise)
    mask = 1 / (1 + np.exp(-(blot - 0.5) / rng.uniform(0.03, 0.15)))
    return blended(frame, mask.astype(np.float32), frame * (1 + rng.choice([-1, 1]) * rng.uniform(0.08, 0.25)))


def lined(rng: np.random.Generator, frame: Frames) -> Frames:
    """A wandering line one or two pixels wide, brighter or darker by 12 to 40 %."""
    height, width = frame.shape[:2]
    steps = int(rng.integers(8, 30))
    angle = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.35, steps))
    start = rng.uniform(0, 1, 2) * (width, height)
    points = start + 3 * np.cumsum(np.column_stack([np.cos(angle), np.sin(angle)]), axis=0)
    mask = np.zeros((height, width), np.float32)
    line = [np.round(points * 8).astype(np.int32)]
    cv2.polylines(mask, line, False, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA, 3)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.7), np.float32)
    return blended(frame, mask, frame * (1 + rng.choice([-1, 1]) * rng.uniform(0.12, 0.4)))


def blended(frame: Frames, mask: npt.NDArray[np.float32], other: npt.NDArray[np.floating[Any]]) -> Frames:
    """`other` where the mask float32 `(H, W)` is one, `frame` where it is zero."""
    share = mask[..., None]
    return np.asarray(np.clip(frame * (1 - share) + other * share, 0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[np.random.Generator, Frames], Frames]] = {
    "pasted": pasted,
    "scar": scarred,
    "stain": stained,
    "line": lined,
}
