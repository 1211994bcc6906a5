"""Copies of the project's own tree: building must not leave files in it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_IGNORED = (".git", ".venv*", "build", "dist", "demo-output", "*.egg-info", "__pycache__")


def copy_tree(folder: Path) -> Path:
    """The tree as a checkout has it, symbolic links as links, at `folder`."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    excluded = [f"--exclude={name}" for name in _IGNORED]
    subprocess.run(["tar", "-C", str(ROOT), *excluded, "-cf", str(archive), "."], check=True)
    subprocess.run(["tar", "-C", str(folder), "-xf", str(archive)], check=True)
    return folder


def names_in_wheel(tree: Path, output: Path) -> set[str]:
    """Build the wheel of `tree` in `output` and say what it installs."""
    built = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(tree)]
    subprocess.run(built, check=True, capture_output=True)
    with zipfile.ZipFile(next(output.glob("*.whl"))) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}
