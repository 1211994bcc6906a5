"""`export`: tables, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simplenet_edge.export.precision import acceptance, precisions
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


def test_explain_names_each_layer(run: Run, run_folder: Path, tmp_path: Path) -> None:
    code, out, err = run("export", run_folder, "-o", tmp_path / "explained.bundle", "--explain")
    assert code == 0, err
    assert "layer2" in out
    assert "as written" in out
    assert "of these, the memory" in out


def test_a_run_that_is_none(run: Run, tmp_path: Path) -> None:
    assert run("export", tmp_path / "absent")[0] == 4
    assert "interrupted" in run("export", tmp_path)[2]


def test_options_that_would_be_ignored_are_refused(run: Run, run_folder: Path) -> None:
    assert run("export", run_folder, "--int8", "x")[0] == 2
    code, _, err = run("export", run_folder, "--explain", "--json")
    assert (code, "pass one of them" in err) == (2, True)


def test_a_precision_ends_with_one_sentence(
    run: Run, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = acceptance.Bounds(auroc_loss=1.0, drawn_loss=1.0)
    for module in (acceptance, precisions):  # of a random backbone less can be expected
        monkeypatch.setattr(module, "BOUNDS", {"fp16": wide})
    code, _, err = run("export", run_folder, "-o", tmp_path / "b", "--fp16")
    assert code == 0, err
    (conclusion,) = [line for line in err.splitlines() if line.startswith("fp16 is as good as fp32: ")]
    assert "its head and backbone are FP16" in conclusion
    assert re.search(r"\d+ of \d+ verdicts flip on calibration images", conclusion)
