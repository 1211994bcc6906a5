"""The image files of a folder: the same ones for training, for a run and for a folder that is watched."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from simplenet_edge.imaging.decode import IMAGE_SUFFIXES

__all__ = ["image_files", "report_passed_over"]

_log = logging.getLogger(__name__)

_NAMED = 3  # files that a message names
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # moved away since its folder was listed, or a link to nowhere


def image_files(
    folder: Path, others: list[Path] | None = None, unreadable: list[OSError] | None = None
) -> Iterator[tuple[Path, os.stat_result]]:
    """The image files in a folder and its subfolders, with what `stat` says of each; in no order.

    Names that begin with a dot are left out. Linked folders are followed, and each folder comes once, under its real
    name where that lies below `folder` too. What is no file with an image's ending goes into `others`: also pipes,
    devices and links to nowhere. Raises OSError, with its `filename`, for what can't be read; where `unreadable` is
    given the errors go there, and only one of `folder` itself is raised.
    """
    seen: set[str] = set()
    links: list[str] = []
    yield from _files(str(folder), seen, links, others, unreadable)
    while links:
        link = links.pop(0)
        try:
            if os.path.realpath(link) not in seen:
                yield from _files(link, seen, links, others, unreadable)
        except OSError as error:
            _keep(error, unreadable)


def _files(
    folder: str, seen: set[str], links: list[str], others: list[Path] | None, unreadable: list[OSError] | None
) -> Iterator[tuple[Path, os.stat_result]]:
    """Those below `folder`; links to folders are left for later, in `links`."""
    with os.scandir(folder) as entries:
        seen.add(os.path.realpath(folder))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path, seen, links, others, unreadable)
                elif entry.is_dir():
                    links.append(entry.path)
                elif entry.is_file() and os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                    yield Path(entry.path), entry.stat()
                elif others is not None:
                    others.append(Path(entry.path))
            except OSError as error:
                _keep(error, unreadable)


def _keep(error: OSError, unreadable: list[OSError] | None) -> None:
    if error.errno in _GONE:
        return
    if unreadable is None:
        raise error
    unreadable.append(error)


def report_passed_over(folder: Path, others: Sequence[Path]) -> None:
    """Say in the log which files in a folder are no images by their endings, so that none is left out in silence."""
    if others:
        names = sorted(repr(str(path.relative_to(folder))) for path in others)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        _log.warning("%s: passed over as no images: %s%s", folder, ", ".join(names[:_NAMED]), more)
