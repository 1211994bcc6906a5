"""`check`: what it prints and writes, and how it leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.conftest import Run, output_of

pytestmark = pytest.mark.slow


@pytest.fixture
def odd_parts(parts: Path, tmp_path: Path) -> Path:
    """The drawn parts with a copy, a flat image, a note and a mask of another size."""
    root = tmp_path / "parts"
    shutil.copytree(parts, root)
    good = root / "train" / "good"
    image = cv2.imread(str(next(good.iterdir())))
    assert image is not None
    cv2.imwrite(str(good / "copy.bmp"), image)
    cv2.imwrite(str(good / "flat.png"), np.full_like(image, 9))
    (good / "notes.txt").write_text("two shifts")
    mask = next((root / "ground_truth").rglob("*.png"))
    cv2.imwrite(str(mask), np.full((5, 5), 255, np.uint8))
    return root


def test_findings_are_told_and_are_no_failure(run: Run, odd_parts: Path) -> None:
    code, out, err = run("check", odd_parts)
    assert code == 0, err
    assert "train/good" in out
    for words in ("copies: 1 image", "flat: 1 image", "masks: 1 mask that can't be used", "unused: 1 file"):
        assert words in out
    assert "notes.txt" not in err  # once is enough


@pytest.mark.parametrize(
    "options", [("DATA",), ("--data", "DATA"), ("--good", "GOOD"), ("--good", "GOOD", "--defect", "NG")]
)
def test_the_images_are_named_as_for_train(run: Run, parts: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    for name in ("scratch", "dent"):
        shutil.copytree(parts / "test" / name, tmp_path / "ng" / name)
    paths = {"DATA": parts, "GOOD": parts / "train" / "good", "NG": tmp_path / "ng"}
    values = output_of(run("check", *(paths.get(word, word) for word in options), "--json", "-"))
    assert values["images"]["train"] == (20 if "NG" not in options else 20 - values["images"]["test"] + 4)
    assert values["refusal"] is None


def test_json_goes_to_a_file_beside_the_table(run: Run, odd_parts: Path, tmp_path: Path) -> None:
    code, out, err = run("check", "--data", odd_parts, "--json", tmp_path / "new" / "check.json")
    assert code == 0, err
    assert "train/good" in out
    values = json.loads((tmp_path / "new" / "check.json").read_text())
    assert {finding["kind"] for finding in values["findings"]} >= {"copies", "flat", "masks", "unused"}
    assert all(set(finding) == {"kind", "text", "files"} for finding in values["findings"])


def test_the_page_shows_the_oddest_images(run: Run, odd_parts: Path, tmp_path: Path) -> None:
    (odd_parts / "test" / "good" / "<b>.png").write_bytes(b"not an image")
    code, _, err = run("check", odd_parts, "--output", tmp_path / "page")
    assert code == 0, err
    page = (tmp_path / "page" / "check.html").read_text(encoding="utf-8")
    assert "flat.png" in page
    assert "&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert page.count("data:image/jpeg;base64,") > 12
    assert "http" not in page


@pytest.mark.parametrize("as_json", [False, True])
def test_it_fails_where_train_would(run: Run, tmp_path: Path, as_json: bool) -> None:
    for i in range(4):
        (tmp_path / "good").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "good" / f"{i}.png"), np.full((32, 32), i, np.uint8))
    code, out, err = run("check", tmp_path / "good", *(("--json", "-") if as_json else ()))
    assert code == 3
    assert "4 of 4 flat" in err.splitlines()[-1]
    assert "4 of 4 flat" in (json.loads(out)["refusal"] if as_json else err)
    assert run("check", tmp_path / "absent")[0] == 3
    assert run("check")[0] == 2
    assert run("check", tmp_path / "good", "--data", tmp_path / "good")[0] == 2


def test_it_needs_nothing_but_the_lean_dependencies(parts: Path) -> None:
    code = (
        "import sys; sys.modules.update({name: None for name in ('torch', 'torchvision', 'sklearn', 'scipy', 'onnx')});"
        "from simplenet_edge.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "check", parts], capture_output=True, text=True, check=False)
    assert (done.returncode, "nothing odd" in done.stdout) == (0, True), done.stderr
