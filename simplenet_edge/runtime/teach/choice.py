"""Which patches of a part that is marked good a memory learns: those that raise its score, no two nearly the same.

Frames uint8 `(H, W, 3)`, maps float32 `(H, W)`, patches as the memory sees them, float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.runtime.teach.graph_memory import Rows
from simplenet_edge.spec import Frames

__all__ = ["Seen", "cells_above", "moved_copies", "thinned"]

_VIEWS = 4  # of each part, the frame itself among them


class Seen(NamedTuple):
    """What a graph says of one frame: its score, its map `(H, W)`, and its patches `(d, h, w)`."""

    score: float
    map: npt.NDArray[np.float32]
    patches: npt.NDArray[np.float32]


def moved_copies(frame: Frames, seen: Seen) -> list[Frames]:
    """A frame moved by quarters of the way from one patch to the next, its edges repeated.

    The memory sees patches at fixed places, and no part lies twice in just the same one.
    """
    height, width = frame.shape[:2]
    rows, columns = seen.patches.shape[1:]
    moved = []
    for i in range(1, _VIEWS):
        down, right = round(i * height / rows / _VIEWS), round(i * width / columns / _VIEWS)
        wider = cv2.copyMakeBorder(frame, down, 0, right, 0, cv2.BORDER_REPLICATE)
        moved.append(np.ascontiguousarray(wider[:height, :width], np.uint8))
    return moved


def cells_above(views: Sequence[Seen], level: float) -> list[npt.NDArray[np.bool_]]:
    """The patches bool `(h, w)` of frames, in whose neighbourhood their maps are above a level.

    `views` are each frame and its `moved_copies`. Of a moved one the patches lie only where the frame itself has such,
    too: its repeated edge is of no part.
    """
    found = []
    for i, seen in enumerate(views):
        (height, width), (rows, columns) = seen.map.shape, seen.patches.shape[1:]
        reach_hw = -(-height // rows), -(-width // columns)  # one patch to each side
        highest = np.asarray(cv2.dilate(seen.map, np.ones((2 * reach_hw[0] + 1, 2 * reach_hw[1] + 1), np.uint8)))
        y, x = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((rows, height), (columns, width)))
        above = np.asarray(highest[np.ix_(y, x)] > level)
        if i % _VIEWS == 0:
            near = cv2.dilate(above.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        found.append(above & near)
    return found


def thinned(rows: Rows, apart: float) -> list[int]:
    """Indices of rows that are `apart`, each the farthest from those before; all others are nearer to one of them."""
    chosen: list[int] = []
    distances = np.full(len(rows), np.inf)
    while len(chosen) < len(rows) and distances.max() > apart:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
    return chosen
