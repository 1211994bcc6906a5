"""What became of the results of one sink: counted, and said in the log once an outage rather than once a frame."""

from __future__ import annotations

import logging

from simplenet_edge.errors import SimpleNetEdgeError

__all__ = ["Tally"]

_log = logging.getLogger(__name__)


class Tally:
    """`error` is the text of the last failure until a result is written. Not thread-safe: a worker holds its lock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.written = 0
        self.lost = 0
        self.error: str | None = None
        self._losing = False

    def add_written(self, has_caught_up: bool) -> None:
        """Count one result; `has_caught_up`: no other waits."""
        self.written += 1
        if self.error is not None:
            _log.warning("%s: it takes results again", self._name)
            self.error = None
        if self._losing and has_caught_up:
            _log.warning("%s: it has caught up; %d results are lost since the start", self._name, self.lost)
            self._losing = False

    def add_lost(self, count: int = 1) -> None:
        """Count results that will not be written."""
        self.lost += count
        if count and not self._losing:
            self._losing = True
            _log.warning("%s: results are lost: %s", self._name, self.error or "it is slower than the line")

    def fail(self, error: Exception) -> None:
        """Keep what went wrong; with a traceback in the log where it is a bug."""
        text = str(error) or type(error).__name__
        if self.error is None:
            _log.warning("%s: %s", self._name, text, exc_info=None if isinstance(error, SimpleNetEdgeError) else error)
        self.error = text
