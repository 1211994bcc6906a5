"""`make gpu-check` as a user without a GPU sees it; with one it does all of its steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simplenet_edge.engines.cuda_driver import driver_problem

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


def test_each_step_passes_or_says_why_it_cannot_run(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--output", str(output), "--images", "24", "--size", "128"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    steps = {step["name"]: step for step in found["steps"]}
    assert steps["training"]["outcome"] == steps["export, FP16 and INT8"]["outcome"] == "passed"
    assert len(steps) == 15
    assert all(step["detail"] for step in steps.values())
    if driver_problem() is not None:
        others = [step for name, step in steps.items() if name not in ("training", "export, FP16 and INT8")]
        assert {step["outcome"] for step in others} == {"skipped"}
        assert found["gpu"] is None
