"""A checkout whose symbolic links came out as small text files, as on Windows and from some zip tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_wheel import expected_names
from tests.trees import copy_tree, names_in_wheel

REMEDY = "git config core.symlinks true && git checkout -- simplenet_edge, or: pip install ."


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    tree = copy_tree(tmp_path / "checkout")
    for name in ("engines", "export"):
        link = tree / "simplenet_edge" / name
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)  # as git writes it: no newline
    return tree


def run(command: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code of a command in `folder`, and its lines on standard error."""
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("words", [["inspect", "x"], ["--help"], ["run", "x", "-"]], ids=" ".join)
def test_the_command_line_says_so_in_one_line(checkout: Path, words: list[str]) -> None:
    code, lines = run([sys.executable, "-c", "from simplenet_edge.cli import main; main()", *words], checkout)
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: this checkout's symbolic links")
    assert lines[0].endswith(REMEDY)


def test_make_says_so_before_it_installs_anything(checkout: Path) -> None:
    code, lines = run(["make", "lint"], checkout)
    assert code == 2  # make's own
    assert lines[0].startswith("error: this checkout's symbolic links")
    assert lines[0].endswith(REMEDY)
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_the_wheel_is_the_same(checkout: Path, tmp_path: Path) -> None:
    names = names_in_wheel(checkout, tmp_path)
    assert {"simplenet_edge/engines/base.py", "simplenet_edge/export/exporter.py"} <= names
    assert names == expected_names()
