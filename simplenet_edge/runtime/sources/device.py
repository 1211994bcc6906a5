"""An open camera as a live source reads it, and when one counts as away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simplenet_edge.spec import Frames

__all__ = ["Device", "EndOfFrames", "LiveSettings", "Shot"]


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
class Shot:
    """What a camera says of one frame; None where it doesn't."""

    frame_id: int | None = None  # the camera's own count
    time_ns: int | None = None  # by the camera's own clock
    began_s: float | None = None  # `time.monotonic` before it was asked for the frame


@dataclass(frozen=True)
class LiveSettings:
    """When a live camera counts as away, and when it is opened again; seconds, `inf` where it is off."""

    silence_s: float = 5.0  # without a frame for this long it is away
    frozen_s: float = 3.0  # with the same image for this long it hangs
    black: bool = True  # whether images without light are faults
    backoff_s: tuple[float, float] = (0.5, 30.0)  # the first wait before it is opened again, and the longest
    report_s: float = 1.0  # how often a record says that it is away
    hung_s: float = 30.0  # a driver that doesn't return for this long is left behind; the camera is opened beside it
