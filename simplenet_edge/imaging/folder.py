"""The image files of a folder: the same ones for training, for a run and for a folder that is watched."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from simplenet_edge.imaging.decode import IMAGE_SUFFIXES

__all__ = ["image_files"]

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # moved away since its folder was listed, or a link to nowhere


def image_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The image files in a folder and its subfolders, with what `stat` says of each; in no order.

    Names that begin with a dot are left out. Linked folders are followed, and each folder comes once, under its real
    name where that lies below `folder` too. Raises OSError where a folder can't be read.
    """
    seen: set[str] = set()
    links: list[str] = []
    yield from _files(str(folder), seen, links)
    while links:
        link = links.pop(0)
        try:
            if os.path.realpath(link) not in seen:
                yield from _files(link, seen, links)
        except OSError as error:
            if error.errno not in _GONE:
                raise


def _files(folder: str, seen: set[str], links: list[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """Those below `folder`; links to folders are left for later, in `links`."""
    with os.scandir(folder) as entries:
        seen.add(os.path.realpath(folder))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path, seen, links)
                elif entry.is_dir():
                    links.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                    yield Path(entry.path), entry.stat()
            except OSError as error:
                if error.errno not in _GONE:
                    raise
