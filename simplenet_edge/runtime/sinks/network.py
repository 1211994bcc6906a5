"""What the sinks for a network share: results go into a spool on disk and leave it once the other side has them."""

from __future__ import annotations

import json
import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

from simplenet_edge.errors import SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink
from simplenet_edge.runtime.sinks.spool import Spool

__all__ = ["NetworkSink"]

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0


class NetworkSink(Sink):
    """Delivers results as JSON, in order, at least once: one that was under way when the line broke may come twice.

    With a spool, `write` only puts the result there; `idle` and `close` deliver. While the other side is away `fault`
    says why, and results are lost only when the spool is full: the oldest. What `close` can't deliver within 2 s is
    delivered by the next run with the same spool. Without one, `write` delivers, and raises SinkError where it can't.
    """

    batch: ClassVar[int] = 1
    """How many results are sent before the first is confirmed."""

    def __init__(self, name: str, spool: Spool | None) -> None:
        self.name = name
        self._spool = spool

    @abstractmethod
    def _prepare(self) -> None:
        """Load the library and read the certificates. Raises ConfigError or SimpleNetEdgeError."""

    @abstractmethod
    def _deliver(self, lines: Sequence[str]) -> Iterator[None]:
        """Connect where needed, send the lines in order, and yield once for each that has arrived. Raises SinkError."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Leave, within a few seconds; without a connection that does nothing."""

    def open(self) -> None:
        """Take the spool; connect, where there is none."""
        self._prepare()
        if self._spool is None:
            self._send([])
        else:
            self._spool.open()
            self._count()

    def write(self, result: FrameResult) -> None:
        """Take one result."""
        line = json.dumps(result.to_dict(), allow_nan=False)
        if self._spool is None:
            self._send([line])
            return
        try:
            self._spool.append(line)
        except SinkError:  # a full disk is no reason not to send
            if len(self._spool):
                raise
            self._send([line])
        self._count()

    def idle(self) -> bool:
        """Deliver a few of the results in the spool, and see that the connection stands."""
        if self._spool is None:
            self._send([])
            return False
        delivered = 0
        try:
            for _ in self._deliver(self._spool.peek(self.batch)):
                delivered += 1
        except SinkError as error:
            self._went_away(error)
        else:
            self._is_back()
        finally:
            self._spool.commit(delivered)
            self._count()
        return self.fault is None and self.waiting > 0

    def close(self) -> None:
        """Deliver what is left, for 2 s at most, and leave."""
        deadline = time.monotonic() + _CLOSE_S
        try:
            while self.waiting and time.monotonic() < deadline and self.idle():
                pass
        finally:
            self._disconnect()
            if self._spool is not None:
                self._spool.close()
        if self.waiting:
            _log.warning("%s: %d results wait in the spool for the next run", self.name, self.waiting)

    def _send(self, lines: Sequence[str]) -> None:
        for _ in self._deliver(lines):
            pass

    def _count(self) -> None:
        if self._spool is None:
            return
        if self._spool.lost > self.lost:
            why = "the spool is full, or was damaged or deleted"
            _log.warning("%s: %d results are lost, %s", self.name, self._spool.lost, why)
        self.waiting, self.lost = len(self._spool), self._spool.lost

    def _went_away(self, error: SinkError) -> None:
        if self.fault is None:
            _log.warning("%s: %s; results wait in the spool", self.name, error)
        self.fault = str(error)

    def _is_back(self) -> None:
        if self.fault is not None:
            _log.warning("%s: it takes results again, %d wait", self.name, self.waiting)
        self.fault = None
