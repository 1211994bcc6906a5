"""Pictures to teach with, from files and folders, and those that a line has kept of rejected parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.folder import image_files
from simplenet_edge.runtime.teach.teach import Picture
from simplenet_edge.spec import InputSpec

__all__ = ["MOST_KEPT", "KeptRecord", "kept_pictures", "kept_record", "read_pictures"]

MOST_KEPT = 200
"""Pictures of rejected parts that a lesson looks at."""


class KeptRecord(NamedTuple):
    """Which frame a kept picture is of; `wall_time` is UTC."""

    recipe: str | None
    camera: str
    frame_id: int
    wall_time: datetime


def read_pictures(places: Sequence[Path], spec: InputSpec) -> list[Picture]:
    """The images at `places`, each a file or a folder. Raises DataError for one without an image, or a damaged one."""
    found: list[Picture] = []
    for place in places:
        paths = _files(place) if place.is_dir() else [place]
        if not paths:
            raise DataError(f"{place}: expected images, found none; name an image or a folder of images")
        found += [Picture(path.name, read_image(path, spec.bit_depth)) for path in paths]
    return found


def kept_pictures(folder: Path, spec: InputSpec, most: int = MOST_KEPT, recipe: str | None = None) -> Iterator[Picture]:
    """The rejected parts, at most so many, of a folder that `run --keep` fills, the newest first; each is read in turn.

    Of one recipe, or of any. Raises DataError.
    """
    rejected = folder / "ng"
    if not rejected.is_dir():
        raise DataError(f"{folder}: expected the folder of run --keep with ng inside, found none; name that folder")
    paths = (path for path in reversed(_files(rejected)) if recipe is None or kept_record(path).recipe == recipe)
    for path in islice(paths, most):
        yield Picture(path.name, read_image(path, spec.bit_depth))


def kept_record(picture: Path) -> KeptRecord:
    """What the record beside a kept picture says. Raises DataError."""
    try:
        about = json.loads(picture.with_suffix(".json").read_bytes())
        recipe, time = about["recipe"], datetime.fromisoformat(about["wall_time"])
        return KeptRecord(None if recipe is None else str(recipe), str(about["camera"]), int(about["frame_id"]), time)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{picture}: its record can't be read ({error}); leave the files of --keep as they are"
        ) from error


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path, _ in image_files(folder))
    except OSError as error:
        raise DataError(f"{folder}: can't be read ({error}); name a folder of images") from error
