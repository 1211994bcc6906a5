"""The log of a command that runs for months: with times, in bounds, and one line per event."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from simplenet_edge.errors import ConfigError

__all__ = ["log_to_stderr", "printable"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_MOST, _MOST_OF_PLACE, _WINDOW_S = 20, 200, 60.0  # lines of one kind, of all kinds at one place, and in how long


def printable(text: str) -> str:
    """`text` on one line, with escapes for control characters and for bytes that are not UTF-8: the names of files,
    classes and cameras come from outside, and so does what a bundle says of itself.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


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
    """A record on one line, and nothing in it that a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


@dataclass
class _Window:
    """What one place in the code has logged since `since_s`: lines by their kind, and those that were left out."""

    since_s: float
    kinds: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


class _Bounded(logging.Filter):
    """Lets 20 lines of one kind through in a minute, and 200 of one place; the first one afterwards says how many were
    left out. Lines that differ in their numbers alone are of one kind: those of another camera are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place, now_s = (record.pathname, record.lineno), time.monotonic()
        kind = re.sub(r"[0-9]+", "0", f"{record.msg} {record.args}")
        window = self._windows.setdefault(place, _Window(now_s))
        if now_s - window.since_s > _WINDOW_S:
            if window.left_out:
                record.msg = f"{record.getMessage()} ({window.left_out} lines like this one were left out)"
                record.args = ()
            window = self._windows[place] = _Window(now_s)
        if window.kinds[kind] >= _MOST or window.kinds.total() >= _MOST_OF_PLACE:
            window.left_out += 1
            return False
        window.kinds[kind] += 1
        return True
