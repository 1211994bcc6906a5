"""The log of a command that runs for months: with times, in bounds, and one line per event."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simplenet_edge.errors import ConfigError

__all__ = ["log_to_stderr"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_MOST, _WINDOW_S = 20, 60.0  # lines of one kind, and in how long


@contextmanager
def log_to_stderr(level: str) -> Iterator[None]:
    """Log to standard error from `level` on, inside. Raises ConfigError for a level that there isn't."""
    if level not in _LEVELS:
        raise ConfigError(f"--log-level must be one of {', '.join(_LEVELS)}, not {level!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_Bounded())
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


class _OneLine(logging.Formatter):
    """Escapes line breaks and other control characters: file and camera names come from outside."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Bounded(logging.Filter):
    """Lets 20 lines of one kind through in a minute; the first one afterwards says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # where it is logged: since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        place, now_s = (record.pathname, record.lineno), time.monotonic()
        since_s, count = self._seen.get(place, (now_s, 0))
        if now_s - since_s > _WINDOW_S:
            if count > _MOST:
                record.msg = f"{record.getMessage()} ({count - _MOST} lines like this one were left out)"
                record.args = ()
            since_s, count = now_s, 0
        self._seen[place] = since_s, count + 1
        return count < _MOST
