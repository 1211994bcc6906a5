"""Pictures to teach with, from files and folders, and those that a line has kept of rejected parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.folder import image_files
from simplenet_edge.runtime.teach.teach import Picture
from simplenet_edge.spec import InputSpec

__all__ = ["kept_pictures", "read_pictures"]


def read_pictures(places: Sequence[Path], spec: InputSpec) -> list[Picture]:
    """The images at `places`, each a file or a folder. Raises DataError for one without an image, or a damaged one."""
    found: list[Picture] = []
    for place in places:
        paths = _files(place) if place.is_dir() else [place]
        if not paths:
            raise DataError(f"{place}: expected images, found none; name an image or a folder of images")
        found += [Picture(str(path), read_image(path, spec.bit_depth)) for path in paths]
    return found


def kept_pictures(folder: Path, spec: InputSpec, most: int) -> list[Picture]:
    """The newest rejected parts, at most so many, of a folder that `run --keep` fills. Raises DataError."""
    rejected = folder / "ng"
    if not rejected.is_dir():
        raise DataError(f"{folder}: expected the folder of run --keep with ng inside, found none; name that folder")
    return read_pictures(_files(rejected)[-most:], spec)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path, _ in image_files(folder))
    except OSError as error:
        raise DataError(f"{folder}: can't be read ({error}); name a folder of images") from error
