"""Which images of a set show the same part, found from the images alone: the same edges at the same places.

A descriptor is float16 `(2048,)`: how strong the edges of an image are in 8 directions, on a grid of 16 x 16 cells.
Logarithms and what all cells have in common taken away make it the same in other light. Numpy and OpenCV only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["NO_DESCRIPTOR", "NearDuplicates", "edge_descriptor", "near_duplicates"]

_SIDE = 64  # pixels that an image is scaled to
_CELLS = 16
_DIRECTIONS = 8
_WEAK = 0.5  # grey levels a pixel: weaker edges are noise
_STEADY = 0.05  # of the usual spread: cells that differ less between images say nothing

NO_DESCRIPTOR: npt.NDArray[np.float16] = np.zeros(_CELLS * _CELLS * _DIRECTIONS, np.float16)
"""Stands for an image that shows nothing, or can't be read: it is like no other."""

_ALIKE = 0.4  # two images of a part have at least this correlation of what tells images apart
_DEVIATIONS = 6.0  # and it lies this far above the usual one of two images of the set
_SAMPLED = 512  # images whose correlations with all others say what is usual
_ROWS = 256  # compared at once
_APART = 0.6
_MOST_KINDS = 0.1
_MOST_CHAINED = 4000  # images in a chain of like ones whose correlations are held at once


class NearDuplicates(NamedTuple):
    """`groups`: a number for each image, the same for those of a part. `kinds`: how many alike images stayed alone."""

    groups: list[int]
    kinds: int


def edge_descriptor(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """The descriptor of a grey image float32 `(H, W)`, 0..255; `NO_DESCRIPTOR` for one without an edge."""
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    across, down = (cv2.Scharr(small, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    strength = np.hypot(across, down)
    if strength.max() < _WEAK:
        return NO_DESCRIPTOR
    direction = np.arctan2(down, across) % np.pi * (_DIRECTIONS / np.pi)
    cells = np.empty((_DIRECTIONS, _CELLS, _CELLS), np.float32)
    for i in range(_DIRECTIONS):
        apart = np.abs(direction - i)
        share = np.maximum(1 - np.minimum(apart, _DIRECTIONS - apart), 0)  # of an edge between two directions
        cells[i] = cv2.resize(strength * share, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    logs = np.log(cells + _WEAK)
    return np.asarray(logs - logs.mean(axis=(1, 2), keepdims=True), np.float16).ravel()


def near_duplicates(descriptors: npt.NDArray[np.float16]) -> NearDuplicates:
    """Which of the images with these descriptors `(n, 2048)` show the same part.

    Compared is what tells the images of this set apart: descriptors standardised over it. Two images are alike when
    they correlate by at least 0.4 and by six deviations more than two images of the set usually do. Alike images hang
    together in chains. A chain of at most sqrt(n) images is a part, unless it falls into groups (by average linkage)
    whose nearest images are clearly less alike than those of a group are: then each of these is one. A longer chain
    means more pictures of a part than there are parts, so that its images are of one kind, or differ by degrees, as
    parts in any direction do: only such groups are parts in it, the others stay alone. So do all where more than a
    tenth of the alike images are in such chains.
    """
    groups = list(range(len(descriptors)))
    shown = np.flatnonzero((descriptors != 0).any(axis=1))
    if len(shown) < 3:
        return NearDuplicates(groups, 0)
    own = _standardized(descriptors[shown])
    threshold = _threshold(own)
    parts, kinds = [], 0
    for chain in _chains(own, threshold):
        if len(chain) > _MOST_CHAINED:
            kinds += len(chain)
            continue
        similar = own[chain] @ own[chain].T
        clusters = list(_average_linkage(similar, threshold))
        apart = [members for members in clusters if len(members) ** 2 <= len(shown) and _stands_apart(similar, members)]
        if len(chain) ** 2 <= len(shown) and len(apart) < len(clusters):
            apart = clusters = [list(range(len(chain)))]
        parts += [shown[chain[members]] for members in apart]
        kinds += sum(map(len, clusters)) - sum(map(len, apart))
    n_grouped = sum(map(len, parts))
    if kinds > _MOST_KINDS * (kinds + n_grouped):
        return NearDuplicates(groups, kinds + n_grouped)
    for part in parts:
        for i in part:
            groups[i] = int(part[0])
    return NearDuplicates(groups, kinds)


def _stands_apart(similar: npt.NDArray[np.float32], members: list[int]) -> bool:
    """Whether the images that `members` leaves of those with this similarity `(n, n)` are less like each of them than
    `_APART` of how alike the members are.
    """
    outside = np.delete(similar[members], members, axis=1)
    m = len(members)
    within = (similar[np.ix_(members, members)].sum() - m) / (m * (m - 1))
    return bool(outside.max(initial=-1) < _APART * within)


def _standardized(descriptors: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Rows of length 1, so that a product of two is their correlation."""
    own = descriptors.astype(np.float32)
    own -= own.mean(axis=0)
    own /= own.std(axis=0) + _STEADY * own.std() + 1e-6
    own -= own.mean(axis=0)
    own /= np.linalg.norm(own, axis=1, keepdims=True) + 1e-6
    return own


def _threshold(own: npt.NDArray[np.float32]) -> float:
    """The correlation from which on two images show one part: by the median over all pairs and their deviation."""
    sampled = np.unique(np.linspace(0, len(own) - 1, _SAMPLED).astype(int))
    pairs = own[sampled] @ own.T
    pairs = pairs[np.arange(len(own)) != sampled[:, None]]
    usual = np.median(pairs)
    deviation = 1.4826 * np.median(np.abs(pairs - usual))  # the standard deviation of a normal distribution
    return float(max(_ALIKE, usual + _DEVIATIONS * deviation))


def _chains(own: npt.NDArray[np.float32], threshold: float) -> Iterator[npt.NDArray[np.intp]]:
    """The images that hang together by pairs above the threshold, two or more."""
    root = np.arange(len(own))
    for start in range(0, len(own), _ROWS):
        near = own[start : start + _ROWS] @ own[start:].T >= threshold
        for row in range(len(near)):
            roots = np.unique(root[start + np.append(np.flatnonzero(near[row]), row)])
            if len(roots) > 1:
                root[np.isin(root, roots)] = roots[0]
    order = np.argsort(root, kind="stable")
    bounds = np.flatnonzero(np.diff(root[order])) + 1
    yield from (chain for chain in np.split(order, bounds) if len(chain) > 1)


def _average_linkage(similar: npt.NDArray[np.float32], threshold: float) -> Iterator[list[int]]:
    """Clusters of two or more whose mean similarity `(m, m)` is at least the threshold, by nearest-neighbour chains."""
    similar = similar.astype(np.float64)
    np.fill_diagonal(similar, -np.inf)
    members = {i: [i] for i in range(len(similar))}
    chain: list[int] = []
    while members:
        if not chain:
            chain.append(next(iter(members)))
        last = chain[-1]
        before = chain[-2] if len(chain) > 1 else None
        nearest = int(similar[last].argmax())
        if similar[last, nearest] < threshold:  # and no later merger comes nearer
            similar[last] = similar[:, last] = -np.inf
            chain.pop()
            if len(cluster := members.pop(last)) > 1:
                yield sorted(cluster)
        elif before is not None and similar[last, before] >= similar[last, nearest]:
            weights = len(members[last]), len(members[before])
            similar[before] = np.average(similar[[last, before]], axis=0, weights=weights)
            similar[:, before] = similar[before]
            similar[last] = similar[:, last] = similar[before, before] = -np.inf
            members[before] += members.pop(last)
            del chain[-2:]
        else:
            chain.append(nearest)
