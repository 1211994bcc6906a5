"""Names, numbers and streams from outside that nobody meant: one error line, nothing that a terminal would obey."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import write_tiny_bundle
from tests.cli.conftest import TRAIN, Run

pytestmark = pytest.mark.slow

DIGITS = "9" * 5000  # more than Python converts
MAIN = "from simplenet_edge.cli import main; main()"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--size", DIGITS),
        ("train", "--size", f"64x{DIGITS}"),
        ("train", "--seed", str(2**64)),
        ("benchmark", "BUNDLE", "--batch", DIGITS),
        ("benchmark", "BUNDLE", "--batch", str(10**12)),
        ("benchmark", "BUNDLE", "--camera", f"{DIGITS}x1"),
    ],
)
def test_numbers_beyond_all_measure(
    run: Run, parts: Path, bundle_path: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    images = ("--data", parts, "-o", tmp_path / "run") if words[0] == "train" else ()
    options = TRAIN[1:3] if words[0] == "train" else ()
    code, _, err = run(*(bundle_path if word == "BUNDLE" else word for word in words), *options, *images)
    assert code == 2, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("command", ["train", "check", "evaluate"])
def test_a_pipe_for_a_list_of_images(run: Run, run_folder: Path, tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "list.csv")
    first = {"train": (*TRAIN, "-o", tmp_path / "run"), "check": ("check",), "evaluate": ("evaluate", run_folder)}
    code, _, err = run(*first[command], "--csv", tmp_path / "list.csv")
    assert code == 3
    assert "expected a CSV file, found a pipe" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "training.json", "calibration.json", "golden.npy"])
def test_a_pipe_in_a_training_run(run: Run, run_folder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    code, _, err = run("export", folder, "-o", tmp_path / "bundle")
    assert code == 4
    assert f"{name} is no file" in err


@pytest.mark.parametrize(("name", "shown"), [("\x1b[2Jevil", "\\x1b[2Jevil"), ("a\nb", "a\\nb"), ("\ud800", "\\ud800")])
def test_a_name_in_a_bundle_that_a_terminal_would_obey(run: Run, tmp_path: Path, name: str, shown: str) -> None:
    path = write_tiny_bundle(tmp_path / "bundle", name=name).path
    code, out, _ = run("inspect", path)
    assert code == 0
    assert out.splitlines()[0].strip() == shown


def test_an_error_about_a_name_that_a_terminal_would_obey(run: Run, tmp_path: Path) -> None:
    code, _, err = run("check", "--data", tmp_path / "\x1b[2Jevil\udcff")
    assert code == 3
    assert "\\x1b[2Jevil\\udcff" in err
    assert "\x1b" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 are Linux's")
def test_a_run_in_a_folder_whose_name_is_not_utf8(run: Run, parts: Path, tmp_path: Path) -> None:
    code, _, err = run(*TRAIN, "--memory", "0", "--data", parts, "-o", tmp_path / "run\udcff")
    assert code == 3
    assert "not UTF-8" in err.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="streams are closed by a POSIX shell")
@pytest.mark.parametrize(("closed", "path", "code"), [("2>&-", "none", 5), (">&- 2>&-", "bundle", 0)])
def test_closed_streams_do_not_change_the_exit_code(tmp_path: Path, closed: str, path: str, code: int) -> None:
    write_tiny_bundle(tmp_path / "bundle")
    words = [sys.executable, "-c", MAIN, "inspect", str(tmp_path / path)]
    assert subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], check=False).returncode == code
