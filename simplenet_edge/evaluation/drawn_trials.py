"""Defects drawn on images of good parts, and whether a model finds them: NG at its threshold.

In: images uint8 `(H, W, 3)` BGR as the camera gives them, and what scores them. Sizes lie on a grid in pixels of the
image, a factor of sqrt(2) apart, from 2 to half of the shorter side. Every second one is drawn first, from the largest
down, once in each region at each contrast, until two in a row are not found. The rest of the draws go between the
largest size that was not found and the smallest that was, with all above it; one defect may be the exception.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simplenet_edge.data.reading import batched
from simplenet_edge.evaluation.pod import Trials
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS, draw_sized

__all__ = ["GRID", "Defect", "DrawnDefects", "Found", "Judge", "sizes_px", "trials_of"]

Judge = Callable[[Sequence[Frames]], npt.NDArray[np.floating]]
"""The scores `(n,)` of images uint8 `(H, W, 3)` BGR."""

GRID = 3
"""Regions in each direction: the image is cut into 3 x 3, numbered row by row."""

_SMALLEST_PX, _LARGEST_SHARE, _STEP = 2.0, 1 / 2, math.sqrt(2)
_MISSED_SIZES = 2  # in a row, after which no smaller one is drawn


@dataclass(frozen=True)
class Defect:
    """What to draw, but for the image and the place in the region."""

    kind: str
    size_px: float
    contrast: float
    region: int


@dataclass(frozen=True)
class Found:
    """A defect that was drawn on an image, and whether it was found there."""

    defect: Defect
    image: int
    hit: bool


class DrawnDefects:
    """Draws on these images, of which none is NG as it is; the same seed draws the same."""

    def __init__(
        self,
        judge: Judge,
        images: Sequence[Frames],
        threshold: float,
        seed: int = 0,
        batch_size: int = 8,
        progress: Progress = ignore,
    ) -> None:
        self._judge, self._images, self._threshold = judge, images, threshold
        self._batch_size, self._progress = batch_size, progress
        self._rng = np.random.default_rng(seed)
        self.found: dict[str, list[Found]] = {kind: [] for kind in SIZED_KINDS}

    def search(self, draws: int, contrasts: Sequence[float]) -> None:
        """Draw about that many defects of each kind, most of them where it is open whether they are found."""
        sizes = sizes_px(self._images)
        cells = [(contrast, region) for contrast in contrasts for region in range(GRID**2)]
        misses = dict.fromkeys(SIZED_KINDS, 0)
        for size in sizes[::-1][::2]:
            kinds = [kind for kind in SIZED_KINDS if misses[kind] < _MISSED_SIZES]
            self.draw([Defect(kind, size, *cell) for kind in kinds for cell in cells], draws * len(SIZED_KINDS))
            for kind in kinds:
                hits = sum(one.hit for one in self.found[kind][-len(cells) :])
                misses[kind] = 0 if hits > 1 else misses[kind] + 1
        plan = []
        for kind, found in self.found.items():
            open_sizes = _open(found, sizes, len(cells))
            pairs = itertools.cycle(itertools.product(cells, open_sizes))
            plan += [Defect(kind, size, *cell) for cell, size in itertools.islice(pairs, max(0, draws - len(found)))]
        self.draw(plan, draws * len(SIZED_KINDS))

    def draw(self, defects: Iterable[Defect], total: int) -> None:
        """Draw each on an image and have it judged; `total` is what progress counts up to."""
        for batch in batched(defects, self._batch_size):
            chosen, pictures = [], []
            for defect in batch:
                chosen.append(int(self._rng.integers(len(self._images))))
                pictures.append(self._drawn(defect, self._images[chosen[-1]]))
            for defect, i, score in zip(batch, chosen, self._judge(pictures), strict=True):
                self.found[defect.kind].append(Found(defect, i, bool(score > self._threshold)))
            done = sum(map(len, self.found.values()))
            self._progress("drawn defects", done, max(done, total))

    def _drawn(self, defect: Defect, image: Frames) -> Frames:
        """The image with the defect somewhere in its region, whole as far as the region lets it."""
        place = []
        for side, cell in zip(image.shape[1::-1], (defect.region % GRID, defect.region // GRID), strict=True):
            low, high, half = side * cell / GRID, side * (cell + 1) / GRID, defect.size_px / 2
            place.append(self._rng.uniform(max(low, min(half, high)), min(high, max(side - half, low))))
        return draw_sized(self._rng, image, defect.kind, defect.size_px, defect.contrast, (place[0], place[1]))


def sizes_px(images: Sequence[Frames]) -> list[float]:
    """The grid of sizes for images uint8 `(H, W, 3)`, ascending."""
    side = float(np.median([min(image.shape[:2]) for image in images]))
    n = int(math.log(max(side * _LARGEST_SHARE / _SMALLEST_PX, 1), _STEP)) + 1
    return [_SMALLEST_PX * _STEP**k for k in range(n)]


def trials_of(found: Sequence[Found]) -> Trials:
    """Drawn defects as the model of hits and misses takes them."""
    return Trials(
        log_size=np.log([one.defect.size_px for one in found]),
        log_contrast=np.log([one.defect.contrast for one in found]),
        region=np.array([one.defect.region for one in found], np.int64),
        image=np.array([one.image for one in found], np.int64),
        hit=np.array([one.hit for one in found], np.bool_),
    )


def _open(found: Sequence[Found], sizes: Sequence[float], n_cells: int) -> list[float]:
    """Of the sizes, those between the largest that was not found and the smallest that was, with all above it."""
    hits = dict.fromkeys(sorted({one.defect.size_px for one in found}, reverse=True), 0)
    for one in found:
        hits[one.defect.size_px] += one.hit
    always = min(itertools.takewhile(lambda size: hits[size] >= n_cells - 1, hits), default=math.inf)
    never = max((size for size, n in hits.items() if n <= 1), default=0.0)
    return [size for size in sizes if never < size < always] or [min(hits)]
