"""How long work says what it is doing: figures for a bar, sentences for a log."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnLoss", "OnMessage", "Progress", "ignore", "ignore_loss", "ignore_message"]

OnMessage = Callable[[str], None]
"""Called with one sentence for people."""

OnLoss = Callable[[float], None]
"""Called with the mean loss of an epoch, before its progress is."""

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the steps done and the steps in all; may come from another thread."""


def ignore(stage: str, done: int, total: int) -> None:
    """A `Progress` that nobody watches."""


def ignore_message(text: str) -> None:
    """An `OnMessage` that nobody reads."""


def ignore_loss(loss: float) -> None:
    """An `OnLoss` that nobody watches."""
