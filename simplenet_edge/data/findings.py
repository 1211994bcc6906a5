"""What a person should know of images before they are trained on: one sentence a kind, with the files it is about."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simplenet_edge.data.facts import ImageFacts

__all__ = ["Finding", "counted", "image_findings", "listed"]

_NAMED = 3  # files in a sentence
_LIKE = 0.05  # of what tells an image from the median one: two that differ by less are the same shot
_STILL = 0.1  # the same in units of an image's contrast: all are one shot. Different parts in a fixture differ by 0.25
_MOST_COMPARED = 20_000  # images; the time grows with their square
_ROWS = 256  # compared at once
_ASPECT = 1.05  # a ratio of aspects below this is rounding


@dataclass(frozen=True)
class Finding:
    """`kind` is a word such as "flat", `text` the sentence, `files` the names in the dataset, all of them."""

    kind: str
    text: str
    files: tuple[str, ...] = ()


def counted(n: int, noun: str = "image") -> str:
    """`1 image`, `2 images`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def image_findings(facts: Sequence[ImageFacts]) -> list[Finding]:
    """What is odd about some images, whatever they are for."""
    usable = [one for one in facts if one.error is None]
    found = [*_copies(usable), *_alike(usable)]
    if flat := [one.sample.name for one in usable if one.is_flat]:
        found.append(
            Finding("flat", f"{counted(len(flat))} with one grey level everywhere: {listed(flat)}", tuple(flat))
        )
    if turned := [one.sample.name for one in usable if one.orientation != 1]:
        text = f"{counted(len(turned))} with an orientation flag, turned upright by it: {listed(turned)}"
        found.append(Finding("orientation", text, tuple(turned)))
    if deep := [one.sample.name for one in usable if one.bits > 8]:
        text = f"{len(deep)} of {counted(len(usable))} of 16 bits, of which the upper 8 of --bit-depth are used"
        found.append(Finding("bit depth", text, tuple(deep) if len(deep) < len(usable) else ()))
    grey = [one.sample.name for one in usable if one.is_grey]
    if 0 < len(grey) < len(usable):
        colour = [one.sample.name for one in usable if not one.is_grey]
        fewer = min(grey, colour, key=len)
        text = f"{counted(len(grey))} grey and {len(colour)} in colour: {listed(fewer)}"
        found.append(Finding("colour", text, tuple(fewer)))
    return [*found, *_sizes(usable)]


def _copies(usable: Sequence[ImageFacts]) -> Iterator[Finding]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for one in usable:
        groups[one.pixels].append(one.sample.name)
    if copies := [group for group in groups.values() if len(group) > 1]:
        n = sum(len(group) - 1 for group in copies)
        named = [" = ".join(group) for group in copies]
        yield Finding(
            "copies",
            f"{counted(n)} with the same pixels as another, which teach nothing more and stay on one side of every "
            f"split: {listed(named)}",
            tuple(name for group in copies for name in group),
        )


def _alike(usable: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Pairs that look like one shot, saved again or brightened, or two frames of one part."""
    kept = list({one.pixels: one for one in usable if not one.is_flat}.values())[:_MOST_COMPARED]
    pairs = [(kept[a].sample.name, kept[b].sample.name) for a, b in _similar(kept)]
    if pairs:
        files = tuple(dict.fromkeys(name for pair in pairs for name in pair))
        named = [f"{a} ~ {b}" for a, b in pairs]
        yield Finding("alike", f"{counted(len(files))} that look like the same shot as another: {listed(named)}", files)


def _similar(facts: Sequence[ImageFacts]) -> Iterator[tuple[int, int]]:
    """Each image with the first later one that differs from it by next to nothing.

    Thumbnails are compared without their brightness and contrast, and without what all have in common: parts in one
    fixture look alike but for what tells them apart.
    """
    if len(facts) < 2:
        return
    thumbnails: npt.NDArray[np.float32] = np.stack([one.thumbnail for one in facts])
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.maximum(thumbnails.std(axis=1, keepdims=True), 1e-6)
    own = thumbnails - np.median(thumbnails, axis=0)
    lengths = np.linalg.norm(own, axis=1)
    for start in range(0, len(own), _ROWS):
        rows = slice(start, start + _ROWS)
        squared = lengths[rows, None] ** 2 + lengths[None] ** 2 - 2 * own[rows] @ own.T
        near = np.sqrt(np.maximum(squared, 0)) < np.maximum(
            _LIKE * np.minimum(lengths[rows, None], lengths[None]), _STILL
        )
        near &= np.arange(len(own)) > np.arange(start, start + len(near))[:, None]
        for row in np.flatnonzero(near.any(axis=1)):
            yield start + int(row), int(near[row].argmax())


def _sizes(usable: Sequence[ImageFacts]) -> Iterator[Finding]:
    sizes = Counter(one.size_hw for one in usable)
    if len(sizes) < 2:
        return
    usual, _ = sizes.most_common(1)[0]
    shown = [f"{width}x{height} ({count})" for (height, width), count in sizes.most_common()]
    aspects = [width / height for height, width in sizes]
    text = f"{len(sizes)} sizes: {listed(shown)}"
    if max(aspects) / min(aspects) > _ASPECT:
        text += (
            f"; width to height is {min(aspects):.2f} to {max(aspects):.2f}, which stretching to the model's input "
            "distorts differently (--resize letterbox keeps it)"
        )
    yield Finding("sizes", text, _names(one for one in usable if one.size_hw != usual))


def _names(facts: Iterable[ImageFacts]) -> tuple[str, ...]:
    return tuple(one.sample.name for one in facts)
