"""What every sink is: a context manager that is given each result in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from types import TracebackType
from typing import ClassVar, TypeVar

from simplenet_edge.errors import SinkError
from simplenet_edge.runtime.records import FrameResult

__all__ = ["Sink", "TooLate"]

_SinkT = TypeVar("_SinkT", bound="Sink")


class TooLate(SinkError):
    """The result was not written, since it would come too late; the sink can take the next one."""


class Sink(ABC):
    """Takes the results that it `wants`; after `write` returns, one is where it belongs or on its way there.

    Called from one thread at a time; `simplenet_edge.runtime.sinks.worker` gives each sink its own, so that a slow one
    never slows the line. Raises SinkError when what it writes to can't be written. A live line then calls `close`,
    `open` and `write` with the same result, after a pause; so a failed `write` leaves nothing half-written.
    """

    name: str = "sink"
    """What logs, metrics and the monitor call it; holds no password."""

    needs_images: ClassVar[bool] = False
    """Whether it looks at the camera image, the model frame or the map. A worker takes them out of the results of a
    sink that doesn't, so that a long queue costs kilobytes."""
    capacity: ClassVar[int] = 1000
    """How many results a worker keeps for it while it is slow or away."""
    newest_only: ClassVar[bool] = False
    """Whether it steers a machine, which an old result would mislead: a worker keeps the newest for it and no other,
    and tries none again."""

    is_overtaken: Callable[[], bool] = staticmethod(lambda: False)
    """Whether a newer result waits; the worker of a live line sets it for a sink of the kind `newest_only`."""

    fault: str | None = None
    """What is wrong although nothing is lost yet, such as a broker that is away."""
    waiting: int = 0
    """Results that it took and still has to deliver."""
    lost: int = 0
    """Results that it took and had to give up."""

    @property
    def exclusive(self) -> Collection[str]:
        """What no other sink of the line may write to, under a name that is the same for all of them."""
        return ()

    def attach(self, cameras: Collection[str]) -> None:  # noqa: B027 - most take any cameras
        """Called before `open` with the names of the line's cameras; ConfigError where their results can't go here."""

    def wants(self, result: FrameResult) -> bool:
        """Whether the result is for this sink; from any thread."""
        return True

    @abstractmethod
    def write(self, result: FrameResult) -> None:
        """Take one result. Raises TooLate for one that must not be written any more."""

    @abstractmethod
    def open(self) -> None:
        """Take the file, the folder or the connection; where that fails give back what was taken."""

    def idle(self) -> bool:
        """Do a little of what is left to do while there is nothing to write; True where there is more of it.

        A worker calls it about once a second, and again at once where there is more. Raises SinkError.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back, and release the file, the folder or the connection."""

    def __enter__(self: _SinkT) -> _SinkT:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
