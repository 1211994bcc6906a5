"""`run --line`: the file says all, and nothing else may."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.workflows.test_line_file import WHOLE, folder, write

__all__ = ["folder"]


def test_a_whole_line_from_one_file(folder: Path, run: Run) -> None:
    path = write(folder, WHOLE)
    code, _, said = run("run", "--line", path, "--check")
    assert (code, "2 recipes, 2 cameras, all in order" in said) == (0, True)
    assert not (folder / "records").exists()
    code, out, _ = run("run", "--line", path, "--json")
    assert (code, json.loads(out)["frames"]) == (0, 6)


def test_the_file_and_the_command_line_do_not_mix(folder: Path, run: Run) -> None:
    path = write(folder, WHOLE)
    code, _, said = run("run", "--line", path, "--watch", "off", "bundle")
    assert (code, "BUNDLE, --watch: leave out what the file" in said) == (2, True)
    for words in ((), ("bundle",), ("bundle", "test://", "--check")):
        code, _, said = run("run", *words)
        assert (code, "expected BUNDLE SOURCE..., or --line FILE" in said) == (2, True)


def test_each_fault_is_a_line(folder: Path, run: Run) -> None:
    path = write(folder, WHOLE.replace("threads", "threat").replace("test://", "tset://"))
    code, _, said = run("run", "--line", path, "--check")
    assert code == 2
    assert said.count("line.toml: ") == 3
