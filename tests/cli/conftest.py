"""Running a command of the command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from simplenet_edge.cli import main

Run = Callable[..., tuple[int, str, str]]

TRAIN = ("train", "--backbone", "resnet18", "--random-weights", "--size", "64", "--meta-epochs", "1")


def output_of(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    values: dict[str, Any] = json.loads(out)
    return values


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
