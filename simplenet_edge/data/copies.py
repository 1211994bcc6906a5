"""Which images are copies of one another, by their pixels: however they are compressed, they must stay together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from simplenet_edge.data.samples import Sample, content_hash, pixel_hash

__all__ = ["copy_groups"]


def copy_groups(samples: Sequence[Sample], pixels: Sequence[str] | None = None) -> list[str]:
    """A SHA-256 in hex for each sample, the same for those with the same pixels: the smallest of their files' own.

    `pixels` are the samples' `pixel_hash`es where they are known; without them every image is decoded. Raises DataError
    for a file that can't be read.
    """
    if pixels is None:
        pixels = [pixel_hash(sample.path) for sample in samples]
    contents: defaultdict[str, list[str]] = defaultdict(list)
    own = [content_hash(sample.path) for sample in samples]
    for same, content in zip(pixels, own, strict=True):
        contents[same].append(content)
    return [min(contents[same]) for same in pixels]
