"""`sweep`: its tables, and options that reach the runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simplenet_edge.cli import app
from simplenet_edge.workflows.sweep_results import PAPER_LABEL
from tests.cli.conftest import TRAIN, Run

pytestmark = pytest.mark.slow


def test_the_command_prints_the_tables(parts: Path, tmp_path: Path) -> None:
    options = ["sweep", "--data", parts, "-o", tmp_path / "sweep", "--seeds", 1, "--protocol", "paper"]
    options += ["--backbone", "resnet18", "--random-weights", "--size", 64, "--meta-epochs", 1, "--alpha", 0.3]
    done = CliRunner().invoke(app, [str(option) for option in options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    printed = " ".join(done.output.split())
    assert "1 seed: last model, no test image used for any choice" in printed
    assert f"1 seed: {PAPER_LABEL}" in printed
    again = CliRunner().invoke(app, [str(option) for option in [*options, "--json"]])
    assert json.loads(again.stdout)["best_on_test"] == PAPER_LABEL


def test_a_sweep_within_a_time_budget(run: Run, parts: Path, tmp_path: Path) -> None:
    options = ("--seeds", "1", "--budget", "1s", "--alpha", "0.3")
    code, _, err = run("sweep", *TRAIN[1:-2], *options, "--data", parts, "-o", tmp_path / "sweep")
    assert code == 0, err
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "sweep").rglob("training.json"))
    assert record["train"]["budget_s"] == 1
    assert record["ended"] == "the time budget was over"
