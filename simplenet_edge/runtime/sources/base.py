"""What every source of frames is: a context manager that is iterated once and gives `FrameRecord`s in order."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

from simplenet_edge.runtime.records import FrameRecord, View

__all__ = ["Source", "View", "utc_now"]

_SourceT = TypeVar("_SourceT", bound="Source")


class Source(ABC):
    """A context manager that is iterated once, inside `with`. `name` is what the user called it."""

    live: ClassVar[bool] = False
    """Whether time goes on while nobody reads: a live source drops frames rather than let them grow old; a recorded
    one waits, and none of its frames is ever left out."""
    on_demand: ClassVar[bool] = False
    """Whether a frame comes only when somebody asks for one, so that silence is no fault."""
    folder: Path | None = None
    """The folder that is read from, where that is what the source does; nothing may be written into it."""

    connected: bool = True
    """Whether the camera gives frames now."""
    reconnects: int = 0
    """How often it came back after it was away."""

    def __init__(self, name: str, view: View | None = None) -> None:
        self.name = name
        self.view = view or View()
        self.stopping = threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[FrameRecord]:
        """The frames in order; waiting for the next one ends soon after `stop`.

        A live source goes on through faults: it gives records with an `error` while its camera is away.
        """

    @abstractmethod
    def _open(self) -> None:
        """Take the device or the file. Raises SourceError when it gives no frames."""

    @abstractmethod
    def _close(self) -> None:
        """Give it back."""

    def stop(self) -> None:
        """Ask the iteration to end soon; from any thread, once or more often."""
        self.stopping.set()

    def __enter__(self: _SourceT) -> _SourceT:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def utc_now() -> datetime:
    """The wall time of a record."""
    return datetime.now(timezone.utc)
