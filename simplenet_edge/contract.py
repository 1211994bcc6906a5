"""What the graph of a bundle must look like, whoever reads it.

`frames` uint8 (B, H, W, 3) in; `score` float32 (B,) and `map` float32 (B, H, W) out; B is free, the rest is fixed.

Where the model has a memory, tensors inside the graph keep their names, so that a device can teach it:

    COORDINATES       float32 (B, d, h, w): the patches as the memory sees them
    LESSON_PRODUCTS   float32 (d, N): minus twice the patches of lessons, a column each; zeros where there is none yet
    LESSON_SQUARES    float32 (N,): their squared lengths; that of `FAR` where there is none yet
    MEMORY_FLOOR      float32 (): the least distance that counts
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from simplenet_edge.errors import EngineError

__all__ = [
    "COORDINATES",
    "FAR",
    "FRAMES",
    "LESSON_PRODUCTS",
    "LESSON_SQUARES",
    "MAP",
    "MEMORY_FLOOR",
    "SCORE",
    "TensorSpec",
    "check_contract",
    "one_line",
]

FRAMES, SCORE, MAP = "frames", "score", "map"
COORDINATES, MEMORY_FLOOR = "head.memory.coordinates", "head.memory.floor"
LESSON_PRODUCTS, LESSON_SQUARES = "head.memory.lesson_products", "head.memory.lesson_squares"
FAR = 60_000.0
"""A distance beyond any that a part has; float16 holds it."""

TensorSpec = tuple[str, tuple[int | None, ...]]
"""NumPy's name of a tensor's type, and the size of each axis; None where it is free."""


def check_contract(
    found: Mapping[str, TensorSpec],
    frame_hw: tuple[int, int],
    map_hw: tuple[int, int],
    precision: str,
    path: Path,
) -> None:
    """Refuse inputs and outputs `found` in a graph that are not the contract's. Raises EngineError."""
    expected: dict[str, TensorSpec] = {
        FRAMES: ("uint8", (None, *frame_hw, 3)),
        SCORE: ("float32", (None,)),
        MAP: ("float32", (None, *map_hw)),
    }
    if dict(found) != expected:
        raise EngineError(
            f"the {precision} graph of {path} breaks the contract: "
            f"expected {_signature(expected)}; found {_signature(found)}; export again"
        )


def _signature(tensors: Mapping[str, TensorSpec]) -> str:
    return ", ".join(
        f"{name} {kind}({', '.join('B' if size is None else str(size) for size in shape)})"
        for name, (kind, shape) in tensors.items()
    )


def one_line(error: BaseException) -> str:
    """The text of an error of a library, which may have many lines, on one."""
    return " ".join(str(error).split())
