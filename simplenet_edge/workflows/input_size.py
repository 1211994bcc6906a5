"""`--size auto`: the input size that the training images need, found on defects drawn on them.

Candidates keep the images' aspect and grow in steps; the smallest that tells drawn defects nearly as well as the best
does is taken. One or two pixels of the camera are the finest detail that is drawn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.data.reading import fingerprint
from simplenet_edge.data.samples import Sample
from simplenet_edge.files import read_json, write_json
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import prepare
from simplenet_edge.training.run_folder import INPUT_NAME
from simplenet_edge.workflows.probe import drawn_auroc, probe_images

__all__ = ["SizeChoice", "choose_size", "input_sizes", "with_size"]

AREAS = (65_536, 163_840, 327_680, 655_360)
"""Pixels of the candidates: 256x256 and 2.5, 5 and 10 times as many. The last bounds what a frame costs."""
TOLERANCE = 0.02
"""AUROC on drawn defects that a smaller input may lose."""
_MULTIPLE = 32  # whole cells of every layer, in even numbers
_LEAST_SIDE = 96
_ENLARGED = 1.1  # more pixels than the camera gives show nothing new
_ASPECT_SPREAD = 1.5  # images whose aspects differ by more have none to keep


@dataclass(frozen=True)
class SizeChoice:
    """The input `(height, width)`, the AUROC on drawn defects of each size that was tried, and why in a sentence."""

    size_hw: tuple[int, int]
    tried: tuple[tuple[tuple[int, int], float], ...]
    reason: str


def input_sizes(image_hw: tuple[int, int], aspects: tuple[float, float]) -> list[tuple[int, int]]:
    """The candidates for images of that median size, from small to large; one at least.

    `aspects` are the least and the largest height through width, outliers left out: where they differ much, inputs are
    square. None has more pixels than the images by more than a tenth, but for the first.
    """
    height, width = image_hw
    aspect = 1.0 if aspects[1] > _ASPECT_SPREAD * aspects[0] else height / width
    sizes: list[tuple[int, int]] = []
    for area in AREAS:
        side = math.sqrt(area * aspect)
        size = (_rounded(side), _rounded(area / max(side, _LEAST_SIDE)))
        if sizes and (size[0] * size[1] > _ENLARGED * height * width or size in sizes):
            break
        sizes.append(size)
    return sizes


def choose_size(
    good: Sequence[Sample],
    options: TrainingOptions,
    *,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> SizeChoice:
    """The input size for images of good parts. The same images and options give the same size on every seed.

    Where there is one candidate nothing is measured, and with fewer than 4 usable images it is the smallest square one.
    Raises what `prepare` raises, and DataError for weights that see nothing.
    """
    images = probe_images(good, options.bit_depth)
    if images is None:
        side = round(math.sqrt(AREAS[0]))
        return SizeChoice((side, side), (), "too few images to find an input size")
    sizes = input_sizes(images.image_hw, images.aspects)
    of_images = f"images of {_text(images.image_hw)}"
    if len(sizes) == 1:
        choice = SizeChoice(sizes[0], (), f"input {_text(sizes[0])} for {of_images}")
    else:
        model, _ = prepare(dataclasses.replace(options, size_hw=sizes[0]))
        tried = []
        for size in sizes:
            tried.append((size, drawn_auroc(model, images, size)))
            progress("input size", len(tried), len(sizes))
        best = max(auroc for _, auroc in tried)
        size, auroc = next(one for one in tried if one[1] >= best - TOLERANCE)
        rest = ", ".join(f"{_text(other)} {value:.2f}" for other, value in tried if other != size)
        choice = SizeChoice(
            size,
            tuple(tried),
            f"input {_text(size)} for {of_images}: AUROC {auroc:.2f} on defects drawn on them (others: {rest})",
        )
    on_message(f"{choice.reason}; --size sets another")
    return choice


def with_size(
    good: Sequence[Sample],
    options: TrainingOptions,
    folder: Path,
    *,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> TrainingOptions:
    """The options with an input size: their own, the paper's, or the one that `choose_size` finds.

    What it found is kept as `input.json` in `folder`, and taken from there for the same images and options.
    """
    if options.size_hw is not None or options.recipe == "paper" or options.resize == "center-crop" or options.resize_to:
        return options
    about = f"{fingerprint(good)} {dataclasses.replace(options, alpha=0.5, meta_epochs=None, budget_s=None)}"
    key = hashlib.sha256(about.encode()).hexdigest()
    kept = read_json(folder / INPUT_NAME)
    if kept is not None and kept.get("key") == key:
        height, width = kept["size_hw"]
        return dataclasses.replace(options, size_hw=(height, width))
    choice = choose_size(good, options, progress=progress, on_message=on_message)
    write_json(folder / INPUT_NAME, {"key": key, **dataclasses.asdict(choice)})
    return dataclasses.replace(options, size_hw=choice.size_hw)


def _rounded(side: float) -> int:
    return max(_LEAST_SIDE, _MULTIPLE * round(side / _MULTIPLE))


def _text(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"
