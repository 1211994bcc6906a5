"""`visibility`: what it prints, and that the figures travel from the run into the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle
from tests.bundles import write_tiny_bundle
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow


@pytest.fixture
def own_run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to write into."""
    return Path(shutil.copytree(run_folder, tmp_path / "own"))


def test_the_figures_of_a_run_go_into_its_bundle(run: Run, own_run: Path, parts: Path, tmp_path: Path) -> None:
    code, out, err = run("visibility", own_run, "--good", parts / "train" / "good", "--draws", 100)
    assert code == 0, err
    assert "a90 / a90/95" in out + err
    assert "scratch" in out
    assert (own_run / "visibility" / "visibility.html").is_file()
    code, _, err = run("export", own_run, "-o", tmp_path / "run.bundle")
    assert code == 0, err
    figures = Bundle(tmp_path / "run.bundle").record().metrics["visibility"]
    assert figures["sizes"]
    assert "curves" not in figures
    code, out, _ = run("inspect", tmp_path / "run.bundle")
    assert (code, "smallest visible" in out) == (0, True)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"threshold": 60.0, "config": {"contrasts": [0.1]}, "sizes": []}, "px at contrast 10%"),
        ({"threshold": 61.0}, "measured at another threshold, 61"),
        ({"sizes": [1]}, "not readable"),
        (7, "not readable"),
    ],
)
def test_inspect_reads_whatever_is_in_the_manifest(run: Run, tmp_path: Path, figures: object, said: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle", metrics={"visibility": figures}).path
    code, out, _ = run("inspect", bundle)
    assert (code, said in " ".join(out.split())) == (0, True)


def test_without_good_images_a_run_takes_its_own(run: Run, own_run: Path) -> None:
    """Of which it has four here, too few to tell anything."""
    code, out, err = run("visibility", own_run, "--json")
    assert (code, out) == (3, "")
    assert "of 4; add images" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [((), 2, "--good FOLDER"), (("--good", "absent"), 3, "no such folder"), (("--draws", 5), 2, "at least 100")],
)
def test_what_is_refused(run: Run, tmp_path: Path, words: tuple[object, ...], code: int, message: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path
    found, out, err = run("visibility", bundle, *words)
    assert (found, out) == (code, "")
    assert message in err


@pytest.mark.parametrize("text", ['{"sizes": 3}', '{"sizes": [NaN]}', "[]", "{"])
def test_damaged_figures_of_a_run_are_named(run: Run, own_run: Path, tmp_path: Path, text: str) -> None:
    (own_run / "visibility").mkdir()
    (own_run / "visibility" / "visibility.json").write_text(text, encoding="utf-8")
    code, _, err = run("export", own_run, "-o", tmp_path / "run.bundle")
    assert (code, "run `simplenet-edge visibility` again" in err) == (3, True)
