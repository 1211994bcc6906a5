"""docs/cli.md is what scripts/cli_docs.py makes of the commands."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "cli_docs.py"


def test_the_page_is_up_to_date() -> None:
    found = runpy.run_path(str(SCRIPT))["page"]()
    assert found == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), "run: .venv/bin/python scripts/cli_docs.py"


def test_the_page_does_not_depend_on_the_terminal() -> None:
    code = f"import runpy; print(runpy.run_path({str(SCRIPT)!r})['page'](), end='')"
    pages = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=True
        ).stdout
        for env in ({"COLUMNS": "40", "TERM": "dumb"}, {"COLUMNS": "200", "TERM": "xterm-256color"})
    }
    assert pages == {(ROOT / "docs" / "cli.md").read_text(encoding="utf-8")}


def test_every_command_and_option_is_on_it() -> None:
    from simplenet_edge.cli import app

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"\n## {command.callback.__name__}\n" in page
    assert {"--rotate", "--masks", "--target", "--shadow", "--no-check"} <= set(
        page.replace("`", " ").replace(",", " ").split()
    )
