"""How long to wait before something that failed is tried again."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """Waits in seconds, each twice the one before, from `first_s` to `longest_s`; for one thread."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """The wait after one more failure."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self._next_s = self._first_s
