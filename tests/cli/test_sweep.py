"""`sweep`: its tables, and options that reach the runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simplenet_edge.cli import app
from simplenet_edge.workflows.sweep_results import PAPER_LABEL
from tests.cli.conftest import TRAIN, Run
from tests.trees import ROOT

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


def test_on_a_cluster_the_table_is_the_same(ray_here: None, run: Run, parts: Path, tmp_path: Path) -> None:
    for name in ("bolt", "cable"):
        shutil.copytree(parts, tmp_path / "data" / name)
    words = ["sweep", *TRAIN[1:], "--alpha", "0.3", "--augment", "0", "--seeds", "2", "--data", str(tmp_path / "data")]
    one_thread = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # the last digits depend on them
    code = "from simplenet_edge.cli import main; main()"
    call = [sys.executable, "-c", code, *words, "-o", str(tmp_path / "here")]
    subprocess.run(call, env=one_thread, capture_output=True, check=True)

    def figures(folder: str) -> list[object]:
        values = json.loads((tmp_path / folder / "sweep.json").read_text(encoding="utf-8"))
        return [
            [one["name"], one["figures"], *(seed["figures"] for seed in one["runs"])] for one in values["categories"]
        ]

    there = ("-o", tmp_path / "there", "--ray", "local")
    exit_code, _, err = run(*words, *there)
    assert exit_code == 0, err
    assert figures("there") == figures("here")
    table = (tmp_path / "there" / "sweep.md").read_text(encoding="utf-8")
    assert table == (tmp_path / "here" / "sweep.md").read_text(encoding="utf-8")
    assert "runs: 4/4" in err
    assert {"bolt, seed 0", "bolt, seed 1", "cable, seed 0", "cable, seed 1"} <= set(err.splitlines())
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("model.safetensors")}
    assert len(written) == 4
    assert run(*words, *there)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written  # nothing is trained twice
