"""Which mask files belong to which image: the names that public datasets give them. Nothing is decoded.

`<class>/<stem>.png` (BTAD, VisA), with `_mask` (MVTec AD, MPDD), `_gt` (KolektorSDD2), `_label` (KolektorSDD) or the
like behind the stem, and `<class>/<stem>/<any>.png` (MVTec LOCO), where all files of the folder count together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from simplenet_edge.errors import DataError

__all__ = ["LOSSY_SUFFIXES", "MatchedMasks", "match_masks", "stem_of"]

LOSSY_SUFFIXES = frozenset({".jpeg", ".jpg", ".webp"})
"""Endings of masks whose edges are smeared by compression."""

_ENDING = re.compile(r"[_-](mask|gt|label|seg|segmentation|ground_?truth)$", re.IGNORECASE)


class MatchedMasks(NamedTuple):
    """The mask files of each image that has some, and a sentence about them where one is due."""

    by_image: dict[PurePosixPath, tuple[Path, ...]]
    notes: tuple[str, ...] = ()


def match_masks(images: Iterable[PurePosixPath], folder: Path, masks: Iterable[PurePosixPath]) -> MatchedMasks:
    """Give each of `masks`, names in `folder`, to one of `images`, names in theirs.

    Raises DataError for a mask that belongs to no image or to several, and for an image with several masks outside a
    folder of its own.
    """
    by_stem: defaultdict[str, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        by_stem[stem_of(image)].append(image)
    matched: dict[PurePosixPath, tuple[Path, ...]] = {}
    united: set[PurePosixPath] = set()
    lossy = []
    for mask in masks:
        stem, in_folder = _stem_of_image(mask, by_stem)
        owners = by_stem.get(stem, [])
        if len(owners) != 1:
            found = " and ".join(map(str, owners)) or "no such image"
            raise DataError(f"{folder / mask}: expected one image {stem} for this mask, found {found}; remove one")
        owner = owners[0]
        if owner in matched and not (in_folder and owner in united):
            raise DataError(f"{folder / mask}: {owner} has another mask, {matched[owner][0]}; remove one of them")
        if in_folder:
            united.add(owner)
        matched[owner] = (*matched.get(owner, ()), folder / mask)
        if mask.suffix.lower() in LOSSY_SUFFIXES:
            lossy.append(mask)
    notes = []
    if lossy:
        notes.append(
            f"{folder}: {len(lossy)} masks such as {lossy[0]} are {lossy[0].suffix}, which smears their edges: pixels "
            "of at least half brightness count; better save masks as PNG"
        )
    return MatchedMasks(matched, tuple(notes))


def _stem_of_image(mask: PurePosixPath, stems: defaultdict[str, list[PurePosixPath]]) -> tuple[str, bool]:
    """The stem of the image that a mask is for, and whether the mask lies in a folder of that name."""
    stem = stem_of(mask)
    if stem not in stems:
        for other, in_folder in ((_ENDING.sub("", stem), False), (mask.parent.as_posix(), True)):
            if other in stems:
                return other, in_folder
        return _ENDING.sub("", stem), False
    return stem, False


def stem_of(name: PurePosixPath) -> str:
    """The name without its ending."""
    return name.as_posix().removesuffix(name.suffix)
