"""The smallest defect that a model still sees, by kind, contrast and region, from defects drawn on good images.

Good images that are NG without a defect are left out: a hit there says nothing of the defect. `drawn_trials` says what
is drawn, `pod` what is made of hits and misses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simplenet_edge.data.reading import batched
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.drawn_trials import GRID, DrawnDefects, Found, Judge, trials_of
from simplenet_edge.evaluation.pod import HitMissModel
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import Frames

__all__ = ["Curve", "Visibility", "VisibilityConfig", "VisibleSize", "measure_visibility"]

_FEWEST_IMAGES = 5
_CURVE_POINTS = 17
_DIGITS = 4  # of figures


@dataclass(frozen=True)
class VisibilityConfig:
    """What is drawn."""

    draws: int = 300  # defects of each kind
    contrasts: tuple[float, ...] = (0.1, 0.2, 0.4)  # shares of the full scale, ascending
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise ConfigError(f"draws must be at least 100 of each kind to tell anything, not {self.draws}")
        if len(self.contrasts) < 2 or not 0 < self.contrasts[0] < self.contrasts[-1] <= 1:
            raise ConfigError(f"contrasts must be two or more ascending shares of the full scale, not {self.contrasts}")


@dataclass(frozen=True)
class VisibleSize:
    """How large a defect has to be. `region` is None for the whole image, else one of 3 x 3, row by row.

    Sizes are in pixels of the image, at least the smallest that was drawn; None where they are beyond the largest.
    Regions are told apart at the lowest contrast that has an a90/95 in the whole image, or at the highest.
    """

    kind: str
    contrast: float
    region: int | None
    a90_px: float | None
    a90_95_px: float | None


@dataclass(frozen=True)
class Curve:
    """POD against size for one kind at one contrast, and its 95 % interval; `found` is size, defects, hits."""

    kind: str
    contrast: float
    sizes_px: tuple[float, ...]
    pod: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    found: tuple[tuple[float, int, int], ...]


@dataclass(frozen=True)
class Visibility:
    """What a model sees, of which parts."""

    image_hw: tuple[int, int]  # the images' median height and width, pixels
    threshold: float
    n_images: int  # good ones that were drawn on
    n_rejected: int  # good ones that are NG as they are, and were left out
    n_drawn: int
    config: VisibilityConfig
    sizes: tuple[VisibleSize, ...]
    curves: tuple[Curve, ...]

    def size(self, kind: str, contrast: float, region: int | None = None) -> VisibleSize:
        """The row of one kind at one contrast, in one region or in all."""
        wanted = (kind, contrast, region)
        return next(row for row in self.sizes if (row.kind, row.contrast, row.region) == wanted)

    def region_contrast(self, kind: str) -> float:
        """The contrast at which the regions of a kind are told apart."""
        return next(row.contrast for row in self.sizes if row.kind == kind and row.region is not None)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {"schema": 1, **dataclasses.asdict(self)}

    def figures(self) -> dict[str, Any]:
        """What goes into a manifest: all but the curves."""
        return {key: value for key, value in self.to_dict().items() if key != "curves"}


def measure_visibility(
    judge: Judge,
    images: Sequence[Frames],
    threshold: float,
    config: VisibilityConfig | None = None,
    batch_size: int = 8,
    progress: Progress = ignore,
) -> Visibility:
    """Draw defects on good images, and see which are found. `progress` counts the defects.

    The same images and the same model give the same result. Raises DataError where fewer than 5 of the images are OK.
    """
    config = config or VisibilityConfig()
    scores = np.concatenate([judge(batch) for batch in batched(images, batch_size)]) if images else np.zeros(0)
    good = [image for image, score in zip(images, scores.tolist(), strict=True) if score <= threshold]
    if len(good) < _FEWEST_IMAGES:
        raise DataError(
            f"expected at least {_FEWEST_IMAGES} good images that are OK, found {len(good)} of {len(images)}; add "
            "images of good parts, or train on more of them"
        )
    drawn = DrawnDefects(judge, good, threshold, config.seed, batch_size, progress)
    drawn.search(config.draws, config.contrasts)
    sizes: list[VisibleSize] = []
    curves: list[Curve] = []
    for found in drawn.found.values():
        trials = trials_of(found)
        whole, split = HitMissModel(trials), HitMissModel(trials, by_region=True)
        rows = [_visible(whole, found, contrast, None) for contrast in config.contrasts]
        contrast = next((row.contrast for row in rows if row.a90_95_px is not None), config.contrasts[-1])
        sizes += [*rows, *(_visible(split, found, contrast, region) for region in range(GRID**2))]
        curves += [_curve(whole, found, contrast) for contrast in config.contrasts]
    height, width = np.median([image.shape[:2] for image in images], axis=0).tolist()
    return Visibility(
        image_hw=(round(height), round(width)),
        threshold=threshold,
        n_images=len(good),
        n_rejected=len(images) - len(good),
        n_drawn=sum(map(len, drawn.found.values())),
        config=config,
        sizes=tuple(sizes),
        curves=tuple(curves),
    )


def _visible(model: HitMissModel, found: Sequence[Found], contrast: float, region: int | None) -> VisibleSize:
    at = (math.log(contrast), region or 0)
    _, largest = _limits(found)
    within = [
        None if size > math.log(largest) else round(math.exp(size), _DIGITS)
        for size in (model.log_a90(*at), model.log_a90_95(*at))
    ]
    return VisibleSize(found[0].defect.kind, contrast, region, within[0], within[1])


def _curve(model: HitMissModel, found: Sequence[Found], contrast: float) -> Curve:
    smallest, largest = _limits(found)
    logs = np.linspace(math.log(smallest), math.log(largest), _CURVE_POINTS)
    pods = [model.pod(log_size, math.log(contrast)) for log_size in logs.tolist()]
    pod, low, high = (tuple(round(value, _DIGITS) for value in column) for column in zip(*pods, strict=True))
    here = [one for one in found if one.defect.contrast == contrast]
    counts = []
    for size in sorted({one.defect.size_px for one in here}):
        hits = [one.hit for one in here if one.defect.size_px == size]
        counts.append((round(size, _DIGITS), len(hits), sum(hits)))
    sizes = tuple(np.exp(logs).round(_DIGITS).tolist())
    return Curve(found[0].defect.kind, contrast, sizes, pod, low, high, tuple(counts))


def _limits(found: Sequence[Found]) -> tuple[float, float]:
    """The smallest and the largest size that was drawn, in pixels."""
    sizes = [one.defect.size_px for one in found]
    return min(sizes), max(sizes)
