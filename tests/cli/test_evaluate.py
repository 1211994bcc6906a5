"""`evaluate`: what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, output_of

pytestmark = pytest.mark.slow


def test_evaluate_needs_test_images(run: Run, run_folder: Path, parts: Path) -> None:
    code, _, err = run("evaluate", run_folder, "--data", parts / "train" / "good")
    assert code == 3
    assert "no labelled test images" in err


def test_a_bundle_for_camera_frames_is_not_evaluated_on_model_frames(
    run: Run, run_folder: Path, parts: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "camera.bundle"
    assert output_of(run("export", run_folder, "-o", bundle, "--frame", "160x90", "--json"))["bundle"] == str(bundle)
    assert output_of(run("verify", bundle, "--json"))["passed"] is True
    code, _, err = run("evaluate", bundle, "--data", parts)
    assert (code, "whole camera frames" in err) == (2, True)


def test_options_of_a_bundle_are_refused_for_a_run(run: Run, run_folder: Path, parts: Path) -> None:
    assert run("evaluate", run_folder, "--data", parts, "--precision", "fp16")[0] == 2
