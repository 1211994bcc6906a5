"""An open camera as a live source reads it, and when one counts as away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simplenet_edge.spec import Frames

__all__ = ["Device", "EndOfFrames", "LiveSettings"]


class EndOfFrames(Exception):
    """There will be no more frames, and that is as it should be."""


class Device(Protocol):
    """An open camera."""

    def read(self) -> Frames:
        """The next image; waits for it.

        Raises SourceError when none comes, DataError for one that can't be used, EndOfFrames at the end.
        """
        ...

    def close(self) -> None:
        """Give it back."""
        ...


@dataclass(frozen=True)
class LiveSettings:
    """When a live camera counts as away, and how it is sought again; seconds, `inf` where it is off."""

    silence_s: float = 5.0
    """Without a frame for so long it is away."""
    frozen_s: float = 3.0
    """With the same picture for so long it hangs."""
    black: bool = True
    """Whether pictures without light are faults."""
    backoff_s: tuple[float, float] = (0.5, 30.0)
    """The first wait before it is opened again, and the longest; each is twice the one before."""
    report_s: float = 1.0
    """How often a record says that it is away."""
    hung_s: float = 30.0
    """A driver of a camera that is away and that doesn't return for so long is left behind, and the camera opened anew
    beside it."""

    def backoff(self, failures: int) -> float:
        """How long to wait after so many failures in a row, counted from 0."""
        first, longest = self.backoff_s
        return float(min(first * 2.0 ** min(failures, 32), longest))
