"""The skeleton of an HTML page that stands alone: its style is in it, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from simplenet_edge.evaluation.results import printable

__all__ = ["html_page", "html_text"]

_FILES = Path(__file__).parent


def html_page(title: str, sections: Iterable[str]) -> str:
    """A page of `sections`, which are HTML; empty ones are left out. The title is any text."""
    page = Template((_FILES / "page.html").read_text(encoding="utf-8"))
    style = (_FILES / "report.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return page.substitute(title=html_text(title), style=style, sections=body)


def html_text(raw: str) -> str:
    """Any text, file names included, as HTML text."""
    return escape(printable(raw))
