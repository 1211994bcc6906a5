"""A lesson at the line: good parts that were rejected enter the memory of a bundle, on the device, without PyTorch."""

from collections.abc import Callable, Sequence

__all__ = ["Teach"]

Teach = Callable[[Sequence[str], Sequence[str], str], str]
"""Teach with good and bad pictures by their names, in the name of somebody; says what became of it."""
