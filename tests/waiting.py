"""How tests wait for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

SOON_S = 60.0
"""Longer than any busy machine takes."""


def until(condition: Callable[[], object], what: str = "what the test waits for") -> None:
    """Return once the condition holds; fail where it doesn't come."""
    end_s = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} has not come"
        time.sleep(0.01)
