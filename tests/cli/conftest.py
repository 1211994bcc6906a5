"""Running a command of the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from simplenet_edge.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["simplenet-edge", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int | None)
        return left.value.code or 0, captured.out, captured.err

    return call
