"""`teach` and `lessons` on the bundle of a real training run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.imaging.decode import read_image
from tests.cli.conftest import Run
from tests.runtime.teach.test_teach import with_label


@pytest.fixture
def folders(bundle_path: Path, parts: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, a part with a label in `good`, an OK part in `bad`, and a twin of the first in `keep`."""
    shutil.copytree(bundle_path, tmp_path / "part.bundle")
    image = with_label(read_image(load_dataset(parts).train[0].path))
    for folder in ("good", "bad", "keep/ng"):
        (tmp_path / folder).mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "good" / "labelled.png"), image)
    assert cv2.imwrite(str(tmp_path / "bad" / "missed.png"), read_image(load_dataset(parts).train[1].path))
    image[:2, :2] ^= 1
    assert cv2.imwrite(str(tmp_path / "keep" / "ng" / "twin.png"), image)
    return tmp_path


def test_a_bundle_is_taught_beside_itself_and_says_what_it_learned(run: Run, folders: Path) -> None:
    bundle = folders / "part.bundle"
    before = Bundle(bundle).id
    code, out, err = run("teach", bundle, "--good", folders / "good", "--by", "Ada", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["bundle"] == str(folders / "part.bundle-lesson1")
    assert (said["parent"], said["by"], Bundle(bundle).id) == (before, "Ada", before)
    assert said["pictures"][0]["after"]["fp32"] <= said["thresholds"]["fp32"] < said["pictures"][0]["before"]["fp32"]
    code, out, err = run("lessons", folders / "part.bundle-lesson1", "-o", folders / "taught")
    assert code == 0, err
    assert "labelled.png" in out
    assert [path.name for path in (folders / "taught" / "good").iterdir()] == ["lesson1-good-1.png"]
    code, _, err = run("lessons", folders / "part.bundle-lesson1", "-o", folders / "taught")
    assert code == 2
    assert "exists" in err


def test_a_refused_lesson_names_the_picture_and_writes_nothing(run: Run, folders: Path) -> None:
    bundle, good = folders / "part.bundle", folders / "good"
    code, out, err = run("teach", bundle, "--good", good, "--kept", folders / "keep")
    assert (code, out) == (11, "")
    assert "twin.png" in err
    code, _, err = run("teach", bundle, "--good", good, "--kept", good)
    assert code == 3
    assert "run --keep" in err
    assert not (folders / "part.bundle-lesson1").exists()


def test_a_missed_part_is_told_with_what_would_have_caught_it(run: Run, folders: Path) -> None:
    code, _, err = run("teach", folders / "part.bundle", "--bad", folders / "bad" / "missed.png")
    if code == 0:
        assert "missed.png" in err.replace("\n", "")
        assert "would catch it" in err.replace("\n", " ")
