"""HTTP with bounds: clients that are many or slow can't use up the descriptors, nor keep others out. Needs uvicorn."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedProtocol"]


class BoundedProtocol(H11Protocol):
    """One connection. Where there are too many, the one that has waited longest for its client to ask is closed."""

    most = 64  # connections of one server
    head_s = 5.0  # for the head of a request to come, from the connection or the last answer on
    since_s = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, in place of another one where there are too many."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self.most:
            idle = [c for c in self.connections if isinstance(c, BoundedProtocol) and c.waits_for_client]
            min(idle, key=lambda c: c.since_s, default=self).transport.abort()

    @property
    def waits_for_client(self) -> bool:
        """Whether it has no request in full, and is not being closed."""
        is_asked = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        return not is_asked and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        """Wait for the next request on this connection, as long as for the first."""
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.since_s = self.loop.time()
        self._timer = self.loop.call_later(self.head_s, self._close_if_slow)

    def _close_if_slow(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
