"""What every sink is: a context manager that is given each result in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, TypeVar

from simplenet_edge.runtime.records import FrameResult

__all__ = ["Sink"]

_SinkT = TypeVar("_SinkT", bound="Sink")


class Sink(ABC):
    """Takes results; after `write` returns, the result is where it belongs or on its way there.

    Called from one thread at a time; `simplenet_edge.runtime.sinks.worker` gives each sink its own, so that a slow one
    never slows the line. Raises SinkError when what it writes to can't be written.
    """

    name: str = "sink"
    """What logs, metrics and the monitor call it; holds no password."""

    needs_images: ClassVar[bool] = False
    """Whether it looks at the camera image, the model frame or the map. A worker takes them out of the results of a
    sink that doesn't, so that a long queue costs kilobytes."""
    capacity: ClassVar[int] = 1000
    """How many results a worker keeps for it while it is slow or away."""
    keeps_trying: ClassVar[bool] = True
    """Whether a worker tries a result again that could not be written; False where an old one would mislead."""

    fault: str | None = None
    """What is wrong although nothing is lost yet, such as a broker that is away."""
    waiting: int = 0
    """Results that it took and still has to deliver."""
    lost: int = 0
    """Results that it took and had to give up."""

    @abstractmethod
    def write(self, result: FrameResult) -> None:
        """Take one result."""

    @abstractmethod
    def open(self) -> None:
        """Take the file, the folder or the connection."""

    def idle(self) -> bool:
        """Do a little of what is left to do while there is nothing to write; True where there is more of it.

        A worker calls it about once a second, and again at once where there is more. Raises SinkError.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back, and give it back."""

    def __enter__(self: _SinkT) -> _SinkT:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
