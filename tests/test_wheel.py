"""What is installed: all of `simplenet_edge`, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_every_module_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building must not leave files in the project
    ignore = [".git", ".venv", "build", "dist", "demo-output", "*.egg-info", "__pycache__"]
    subprocess.run(
        ["tar", "-C", ROOT, *(f"--exclude={name}" for name in ignore), "-cf", tmp_path / "source.tar", "."], check=True
    )
    source.mkdir()
    subprocess.run(["tar", "-C", source, "-xf", tmp_path / "source.tar"], check=True)
    built = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source]
    subprocess.run(built, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    folders = {"simplenet_edge": ROOT / "simplenet_edge"}
    for part in ("export", "engines"):
        folders[f"simplenet_edge/{part}"] = ROOT / part
    page = ROOT / "simplenet_edge" / "runtime" / "monitor" / "page"
    expected = {"simplenet_edge/py.typed", *(path.relative_to(ROOT).as_posix() for path in page.iterdir())}
    for prefix, folder in folders.items():
        for path in folder.rglob("*.py"):
            relative = path.relative_to(folder).as_posix()
            if not relative.startswith(("export/", "engines/")) or prefix != "simplenet_edge":
                expected.add(f"{prefix}/{relative}")
    assert names == expected
