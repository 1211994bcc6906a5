"""Texts of options become values, or a message that says what was expected."""

from __future__ import annotations

import pytest

from simplenet_edge.cli.options import parse_seconds
from simplenet_edge.errors import ConfigError


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5m", 90)])
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-1s", "2h", "nan", "inf", "2 minutes"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 90s or 2m"):
        parse_seconds(text)
