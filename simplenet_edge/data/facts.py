"""What there is to know of each image before training, from decoding it once: `check` tells it, `train` acts on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.data.near_duplicates import NO_DESCRIPTOR, edge_descriptor
from simplenet_edge.data.reading import too_many_corrupt
from simplenet_edge.data.samples import Sample, hash_of_pixels
from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_stored, to_bgr
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import FULL_BIT_DEPTH

__all__ = ["FLAT_RANGE", "THUMBNAIL_SIDE", "ImageFacts", "gather_facts", "refuse_untrainable"]

THUMBNAIL_SIDE = 16
FLAT_RANGE = 2
"""Grey levels that rounding and compression leave of one."""
_MOST_THREADS = 8


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """One image. Grey levels are those of the 8-bit image that a model sees, 0..255."""

    sample: Sample
    pixels: str  # the same for copies
    error: str | None = None  # why it can't be used; what follows is empty then
    size_hw: tuple[int, int] = (0, 0)  # pixels, upright
    kind: str = ""  # JPEG, PNG, ...
    bits: int = 8  # of a stored sample
    orientation: int = 1  # EXIF's, 1 is upright
    is_grey: bool = True  # all channels are equal
    is_flat: bool = False  # no channel has more than rounding in it
    mean: float = 0.0  # of the grey levels
    contrast: float = 0.0  # their standard deviation
    thumbnail: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # grey, flattened
    descriptor: npt.NDArray[np.float16] = field(default_factory=lambda: NO_DESCRIPTOR)  # of its edges


def gather_facts(
    samples: Sequence[Sample], bit_depth: int = FULL_BIT_DEPTH, progress: Progress = ignore
) -> tuple[ImageFacts, ...]:
    """The facts of each sample, in order; each file is read and decoded once, a few at the same time."""
    found = []
    executor = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS))
    try:
        for facts in executor.map(partial(_facts, bit_depth=bit_depth), samples):
            found.append(facts)
            progress("checking", len(found), len(samples))
    finally:
        executor.shutdown(cancel_futures=True)
    return tuple(found)


def _facts(sample: Sample, bit_depth: int) -> ImageFacts:
    try:
        stored = read_stored(sample.path)
        pixels = hash_of_pixels(stored.pixels)
        image = to_bgr(stored.pixels, bit_depth)
    except DataError as error:
        return ImageFacts(sample, os.fspath(sample.path), str(error).removeprefix(f"{sample.path}: "))
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    levels = grey.astype(np.float32)
    small = cv2.resize(levels, side, interpolation=cv2.INTER_AREA)
    mean, contrast = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    lowest, highest = (limit(limit(image, axis=0), axis=0).astype(int) for limit in (np.min, np.max))
    return ImageFacts(
        sample,
        pixels,
        size_hw=(height, width),
        kind=stored.header.kind,
        bits=stored.header.bits,
        orientation=stored.header.orientation,
        is_grey=bool((image == image[:, :, :1]).all()),
        is_flat=bool((highest - lowest <= FLAT_RANGE).all()),
        mean=mean,
        contrast=contrast,
        thumbnail=np.asarray(small, np.float32).ravel(),
        descriptor=edge_descriptor(levels),
    )


def refuse_untrainable(facts: Sequence[ImageFacts], max_corrupt_share: float) -> None:
    """Raise DataError where too many good parts can't be read, or where they show nothing that could be learned."""
    corrupt = [f"{one.sample.path}: {one.error}" for one in facts if one.error is not None]
    if facts and (len(corrupt) / len(facts) > max_corrupt_share or len(corrupt) == len(facts)):
        raise DataError(too_many_corrupt(corrupt, len(facts), len(facts), max_corrupt_share))
    usable = [one for one in facts if one.error is None]
    flat = [one for one in usable if one.is_flat]
    if flat and len({one.pixels for one in usable if not one.is_flat}) < 2:
        raise DataError(
            f"expected images that show good parts, found {len(flat)} of {len(usable)} flat, the same grey level "
            f"everywhere, such as {flat[0].sample.path}: nothing can be learned from them; look at the camera's lens "
            "cap, light and exposure, and at how the images were saved"
        )
