"""`evaluate`: what it refuses, and what it tells."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
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


def test_what_is_left_out_is_told(run: Run, run_folder: Path, parts: Path, tmp_path: Path) -> None:
    root = tmp_path / "parts"
    shutil.copytree(parts, root)
    (root / "test" / "good" / "000.png").write_bytes(b"not an image" * 2)
    (root / "test" / "good" / "zzz.png").write_bytes((root / "test" / "good" / "001.png").read_bytes())
    for path in (root / "test" / "scratch").glob("*.png"):  # enough good ones that one corrupt file is below 5 %
        for i in range(5):
            shutil.copy(path, path.with_name(f"more{i}{path.name}"))
    mask = next((root / "ground_truth").rglob("*.png"))
    cv2.imwrite(str(mask), np.full((5, 5), 255, np.uint8))
    code, _, err = run("evaluate", run_folder, "--data", root, "-o", tmp_path / "report")
    assert code == 0, err
    assert "left out: test/good/000.png: is no image" in err
    assert "its mask, " in err
    assert "found 5x5" in err


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("ground_truth", "the defective images have no masks"),
        ("test/good", "no good test image could be used"),
        ("test/[!g]*", "no defective test image could be used"),
        ("masks", "none of the 6 masks could be used"),
        ("scratch", "no pixel AUROC and no AUPRO of scratch"),
    ],
)
def test_a_dash_has_a_reason(run: Run, run_folder: Path, parts: Path, tmp_path: Path, spoil: str, reason: str) -> None:
    root = tmp_path / "parts"
    shutil.copytree(parts, root)
    if spoil in ("masks", "scratch"):
        for mask in (root / "ground_truth").rglob("*.png"):
            if spoil == "masks" or mask.parent.name == spoil:
                cv2.imwrite(str(mask), np.zeros((96, 96), np.uint8))
    else:
        for folder in root.glob(spoil):
            shutil.rmtree(folder)
        if spoil == "test/[!g]*":
            shutil.rmtree(root / "ground_truth")
    code, out, err = run("evaluate", run_folder, "--data", root, "-o", tmp_path / "report")
    assert code == 0, err
    assert re.search(r"[│|]\s+-\s+[│|]|rejects at the threshold: -", out + err)
    assert reason in err


def test_it_needs_no_images_to_train_on(run: Run, run_folder: Path, parts: Path, tmp_path: Path) -> None:
    for name in ("test", "ground_truth"):
        shutil.copytree(parts / name, tmp_path / "parts" / name)
    assert (
        len(
            output_of(run("evaluate", run_folder, "--data", tmp_path / "parts", "-o", tmp_path / "r", "--json"))[
                "images"
            ]
        )
        == 10
    )
    (tmp_path / "heap" / "a").mkdir(parents=True)
    shutil.copy(next((parts / "test").rglob("*.png")), tmp_path / "heap" / "a")
    code, _, err = run("evaluate", run_folder, "--data", tmp_path / "heap", "-o", tmp_path / "r")
    assert code == 3
    assert "training" not in err
    assert "--good" in err
