"""Puts files that live outside `docs/` into the documentation's site, so that their links work there and on a forge.

Pages from the root link to `docs/...`, pages in `docs/` to `../...`; on the site all of them lie side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the root's pages and the plots of the benchmarks."""
    plots = sorted((ROOT / "benchmarks" / "results").glob("*.svg"))
    for path in (*(ROOT / name for name in PAGES), *plots):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn links between the root and `docs/` into links between neighbours."""
    return markdown.replace("](docs/" if page.file.src_uri in PAGES else "](../", "](")
