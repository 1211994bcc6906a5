"""One image file of a dataset, the dataset, and what tells the contents of files apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_stored, to_bgr

__all__ = ["Dataset", "Sample", "content_hash", "hash_of_pixels", "pixel_hash"]


@dataclass(frozen=True)
class Sample:
    """One image file of a dataset.

    `defect` is None on a good part, otherwise the defect class, e.g. "scratch". `mask_path` is the ground truth of a
    defective part, where there is one; what `more_mask_paths` show is defective too. `name` is the path inside the
    dataset with forward slashes, the same on every machine; without it, the file's name.
    """

    path: Path
    defect: str | None = None
    mask_path: Path | None = None
    name: str = ""
    more_mask_paths: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.name)

    @property
    def mask_paths(self) -> tuple[Path, ...]:
        """All files of the ground truth; none without one."""
        return () if self.mask_path is None else (self.mask_path, *self.more_mask_paths)


@dataclass(frozen=True)
class Dataset:
    """`train`: good parts, for training and calibration. `test`: labelled good and defective parts; may be empty."""

    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    layout: str = field(default="", compare=False)  # which one it was taken for, in words
    folders: tuple[Path, ...] = field(default=(), compare=False)  # that it was read from
    good_masks: tuple[Path, ...] = field(default=(), compare=False)  # masks of good parts, which are not used
    notes: tuple[str, ...] = field(default=(), compare=False)  # what its maker may not have meant, a sentence each


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, read in pieces. Raises DataError."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    return digest.hexdigest()


def pixel_hash(path: Path) -> str:
    """What is the same for all files with the same pixels, however they are compressed; for a file that is no image,
    for all with the same bytes. Raises DataError where it can't be read.
    """
    try:
        return hash_of_pixels(read_stored(path).pixels)
    except DataError:
        return content_hash(path)


def hash_of_pixels(pixels: npt.NDArray[Any]) -> str:
    """SHA-256 in hex of an image as `read_stored` gives it; grey in one channel or in three is the same.

    Raises DataError for what is no image that could be used.
    """
    digest = hashlib.sha256(f"{pixels.shape[:2]}".encode() + to_bgr(pixels).tobytes())
    if pixels.dtype == np.uint16:
        digest.update(to_bgr((pixels & 255).astype(np.uint8)).tobytes())
    return digest.hexdigest()
