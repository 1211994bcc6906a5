"""The skeleton of an HTML page that stands alone: its style is in it, and nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np

from simplenet_edge.spec import Frames

__all__ = ["data_uri", "html_page", "html_text"]

_FILES = Path(__file__).parent
_VIEW_SIZE = 320  # longest side of a shown image, in pixels
_JPEG_QUALITY = 88


def html_page(title: str, sections: Iterable[str]) -> str:
    """A page of `sections`, which are HTML; empty ones are left out. The title is any text."""
    page = Template((_FILES / "page.html").read_text(encoding="utf-8"))
    style = (_FILES / "report.css").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return page.substitute(title=html_text(title), style=style, sections=body)


def html_text(raw: str) -> str:
    """Any text, file names included, as HTML text."""
    return escape(raw.encode(errors="replace").decode())


def data_uri(view: Frames) -> str:
    """An image uint8 `(H, W, 3)` BGR as a small JPEG for the `src` of an HTML image."""
    scale = _VIEW_SIZE / max(view.shape[:2])
    if scale < 1:
        view = np.asarray(cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"
