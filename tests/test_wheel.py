"""What is installed: all of `simplenet_edge`, and nothing else."""

from __future__ import annotations

from pathlib import Path

from simplenet_edge import __version__
from tests.trees import ROOT, copy_tree, names_in_wheel


def expected_names() -> set[str]:
    """Every module, `py.typed`, the files of the monitor page, the report and the controllers, and the systemd unit."""
    page = ROOT / "simplenet_edge" / "runtime" / "monitor" / "page"
    report = ROOT / "simplenet_edge" / "evaluation" / "report"
    nodesets = ROOT / "simplenet_edge" / "runtime" / "controllers" / "nodesets"
    files = [*page.iterdir(), *report.glob("*.css"), *report.glob("*.html"), *nodesets.iterdir()]
    unit = f"simplenet_edge-{__version__}.data/data/share/simplenet-edge/simplenet-edge.service"
    expected = {"simplenet_edge/py.typed", unit, *(path.relative_to(ROOT).as_posix() for path in files)}
    folders = {"simplenet_edge": ROOT / "simplenet_edge"}
    for part in ("export", "engines"):
        folders[f"simplenet_edge/{part}"] = ROOT / part
    for prefix, folder in folders.items():
        for path in folder.rglob("*.py"):
            relative = path.relative_to(folder).as_posix()
            if not relative.startswith(("export/", "engines/")) or prefix != "simplenet_edge":
                expected.add(f"{prefix}/{relative}")
    return expected


def test_the_wheel_holds_every_module_and_nothing_else(tmp_path: Path) -> None:
    assert names_in_wheel(copy_tree(tmp_path / "source"), tmp_path) == expected_names()
