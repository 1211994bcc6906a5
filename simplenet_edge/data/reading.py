"""Datasets of image files: loaded, split into training and calibration, read as model frames, fingerprinted.

Frames are uint8 `(H, W, 3)` BGR of the model's size, masks bool `(H, W)`, both from `imaging.preprocess`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from simplenet_edge.data.copies import copy_groups
from simplenet_edge.data.groups import joined
from simplenet_edge.data.layouts import Dataset, Sample, load_dataset
from simplenet_edge.data.masks import LOSSY_SUFFIXES
from simplenet_edge.data.samples import content_hash
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import read_image, read_mask, read_pixels
from simplenet_edge.imaging.preprocess import preprocess, preprocess_mask
from simplenet_edge.spec import Frames, InputSpec

__all__ = [
    "BATCH_PIXELS",
    "MAX_CORRUPT_SHARE",
    "Dataset",
    "FrameReader",
    "ReadFrame",
    "Sample",
    "Split",
    "batched",
    "check_bit_depth",
    "fingerprint",
    "fitting_batch",
    "load_dataset",
    "read_frames",
    "read_sample_mask",
    "read_whole_mask",
    "split_good",
    "too_many_corrupt",
]

BATCH_PIXELS = 8 * 288 * 288
"""Pixels that one batch of frames has at most: what a batch takes in memory goes with them."""

MAX_CORRUPT_SHARE = 0.05
"""The share of unreadable images that a reading bears unless told otherwise; `check` holds good parts to it too."""

_T = TypeVar("_T")

_LISTED = 5  # corrupt files that a message names


@dataclass(frozen=True)
class Split:
    """Good parts for training and others, never seen in training, for the threshold; both in the dataset's order."""

    train: tuple[Sample, ...]
    calibration: tuple[Sample, ...]


def split_good(
    samples: Sequence[Sample],
    calibration_share: float = 0.2,
    seed: int = 0,
    pixels: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
) -> Split:
    """Split good parts into training and calibration, the same way on every machine.

    Copies of an image, with the same pixels, always fall on one side: a calibration image that was trained on would
    void the false-reject guarantee. So do images of one part by `parts`, a label for each sample. `pixels` are the
    samples' `pixel_hash`es where they are known. The order comes from the files' contents and `seed`, never from their
    names. Neither side is empty. The calibration side has `round(n * calibration_share)` images, fewer where copies
    don't fit; with `parts` it has that share of the parts, fewer where that would take half of training's images.

    Raises ConfigError unless 0 < calibration_share < 1, DataError for fewer than 2 different images or parts.
    """
    if not 0 < calibration_share < 1:
        raise ConfigError(f"calibration_share must be between 0 and 1, both excluded, not {calibration_share}")
    contents = copy_groups(samples, pixels)
    n_different = len(set(contents))
    if parts is not None:
        contents = _first_contents(joined(parts, contents), contents)
    copies = Counter(contents)
    if len(copies) < 2 <= n_different:
        raise DataError(
            f"expected images of at least 2 good parts, better 100 or more, found {len(samples)} of one part by "
            "--group; the parts that set the threshold must not be trained on: add images of others, or say which "
            "images show one part"
        )
    if len(copies) < 2:
        found = f"{len(samples)} copies of one" if len(samples) > 1 else str(len(samples))
        raise DataError(
            f"expected at least 2 different images of good parts, better 100 or more, found {found}; add images, "
            "since those that set the threshold must not be trained on"
        )
    usual = room = max(round(len(samples) * calibration_share), 1)
    most = len(copies) - 1
    if parts is not None:
        room = (usual + len(samples)) // 2
        most = min(max(round(len(copies) * calibration_share), 1), most)
    calibration: set[str] = set()
    for content in sorted(copies, key=lambda content: hashlib.sha256(f"{seed} {content}".encode()).digest()):
        if copies[content] <= min(room, usual) and len(calibration) < most:
            calibration.add(content)
            room -= copies[content]
    if not calibration:
        calibration.add(min(sorted(copies), key=copies.__getitem__))
    return Split(
        train=tuple(sample for sample, content in zip(samples, contents, strict=True) if content not in calibration),
        calibration=tuple(sample for sample, content in zip(samples, contents, strict=True) if content in calibration),
    )


def _first_contents(labels: Sequence[str], contents: Sequence[str]) -> list[str]:
    """For each label the smallest of its contents, so that no order depends on the labels themselves."""
    first: dict[str, str] = {}
    for label, content in zip(labels, contents, strict=True):
        first[label] = min(first.get(label, content), content)
    return [first[label] for label in labels]


class ReadFrame(NamedTuple):
    """A sample, its model frame uint8 `(H, W, 3)` BGR, and the size in pixels of the image that it was made from."""

    sample: Sample
    frame: Frames
    image_hw: tuple[int, int]


class FrameReader:
    """Reads samples one by one, in order, as model frames; see `read_frames`.

    `corrupt` lists the files that the last (or current) pass left out, each with the reason.
    """

    def __init__(self, samples: Sequence[Sample], spec: InputSpec, max_corrupt_share: float) -> None:
        self.corrupt: list[tuple[Path, str]] = []
        self._samples = samples
        self._spec = spec
        self._max_corrupt_share = max_corrupt_share

    def __iter__(self) -> Iterator[ReadFrame]:
        """Yield each sample with its frame. Raises DataError when too many files are corrupt."""
        self.corrupt = []
        total = len(self._samples)
        for position, sample in enumerate(self._samples, start=1):
            try:
                image = read_image(sample.path, self._spec.bit_depth)
                frame = preprocess(image, self._spec)
            except DataError as error:
                self.corrupt.append((sample.path, str(error)))
                if len(self.corrupt) / total > self._max_corrupt_share or len(self.corrupt) == total:
                    reasons = [reason for _, reason in self.corrupt]
                    raise DataError(too_many_corrupt(reasons, position, total, self._max_corrupt_share)) from error
            else:
                yield ReadFrame(sample, frame, (image.shape[0], image.shape[1]))


def too_many_corrupt(reasons: Sequence[str], position: int, total: int, max_share: float) -> str:
    """What a DataError says of the files that can't be used among the first `position` of `total`."""
    listed = [*reasons[:_LISTED]]
    if len(reasons) > _LISTED:
        listed.append(f"and {len(reasons) - _LISTED} more")
    return (
        f"{len(reasons)} of the first {position} images (of {total}) can't be used, expected at most {max_share:.0%} "
        f"of them: {'; '.join(listed)}"
    )


def read_frames(
    samples: Sequence[Sample], spec: InputSpec, max_corrupt_share: float = MAX_CORRUPT_SHARE
) -> FrameReader:
    """A reader that yields a `ReadFrame` for each sample, in order.

    One frame is in memory at a time. Files that can't be used are left out and listed in the reader's `corrupt`; once
    they are more than `max_corrupt_share` of all samples, or all of them, iterating raises DataError.
    """
    if not 0 <= max_corrupt_share <= 1:
        raise ConfigError(f"max_corrupt_share must be within 0..1, not {max_corrupt_share}")
    return FrameReader(samples, spec, max_corrupt_share)


def check_bit_depth(samples: Sequence[Sample], spec: InputSpec) -> None:
    """Raise DataError where none of the 16-bit images among the samples uses the upper 4 of `spec.bit_depth` bits: a
    camera's 8, 10 or 12 bits, which would come out nearly black.

    Looks no further than to the first image that does. Files that can't be used are passed over.
    """
    largest, n_images = 0, 0
    for sample in samples:
        try:
            pixels = read_pixels(sample.path)
        except DataError:
            continue
        if pixels is None or pixels.dtype != np.uint16:
            continue
        largest, n_images = max(largest, int(pixels.max())), n_images + 1
        if largest >> (spec.bit_depth - 4):
            return
    if n_images:
        needed = next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)
        raise DataError(
            f"expected 16-bit images that use {spec.bit_depth} bits, values up to {2**spec.bit_depth - 1}, found "
            f"values up to {largest} in {n_images} images, which would be nearly black; say how many bits the "
            f"camera gives, e.g. --bit-depth {needed}"
        )


def read_sample_mask(sample: Sample, spec: InputSpec, image_hw: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """The ground truth bool `(H, W)` of a sample through the geometry of its frame; True = defective.

    `image_hw` is the size of the sample's image in pixels. All False for a good part, None for a defective one without
    a mask. Raises DataError where a mask can't be read or is not of the image's size.
    """
    if sample.defect is None:
        return np.zeros(spec.size_hw, dtype=np.bool_)
    if sample.mask_path is None:
        return None
    return preprocess_mask(read_whole_mask(sample, image_hw), spec)


def read_whole_mask(sample: Sample, image_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """All mask files of a sample as one, bool of its image's size: defective where one of them says so.

    Of a mask whose compression smears its edges, pixels of at least half brightness count. Raises DataError as
    `read_sample_mask` does.
    """
    whole = np.zeros(image_hw, dtype=np.bool_)
    for path in sample.mask_paths:
        lossy = path.suffix.lower() in LOSSY_SUFFIXES
        mask = read_image(path).max(axis=2) >= 128 if lossy else read_mask(path)
        if mask.shape != image_hw:
            raise DataError(
                f"{path}: expected a mask of its image's size, {image_hw[0]}x{image_hw[1]}, found "
                f"{mask.shape[0]}x{mask.shape[1]}; export the mask at the size of {sample.path}"
            )
        whole |= mask
    return whole


def fingerprint(samples: Sequence[Sample], hashes: Mapping[Path, str] | None = None) -> str:
    """SHA-256 in hex over the names and contents of the samples, whatever their order. Raises DataError.

    `hashes` are the `content_hash` of each file where they are known already.
    """
    known = hashes or {}
    digest = hashlib.sha256()
    for name, content in sorted((one.name, known.get(one.path) or content_hash(one.path)) for one in samples):
        digest.update(os.fsencode(name) + b"\0" + content.encode())
    return digest.hexdigest()


def fitting_batch(batch_size: int, size_hw: tuple[int, int]) -> int:
    """How many frames of that size go into one batch: `batch_size`, or as many as `BATCH_PIXELS` allow, at least 1."""
    return max(1, min(batch_size, BATCH_PIXELS // (size_hw[0] * size_hw[1])))


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of `size` items in order, the last one shorter where they don't divide; one list is in memory at a time."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
