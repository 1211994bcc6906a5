"""How well a backbone at a scale tells drawn defects from good parts, in seconds: a stand-in for whole trainings.

Windows of good images, at one place and in the camera's pixels, uint8 `(H, W, 3)` BGR; what is drawn on them is scaled
with them, as a model of that scale would see it. A patch memory alone judges: no network is trained and no real defect
is looked at.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from simplenet_edge.data.facts import FLAT_RANGE
from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import DataError
from simplenet_edge.evaluation.metrics import image_auroc
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.model.embedder import FrameEmbedder
from simplenet_edge.model.patches import image_scores
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, InputSpec
from simplenet_edge.synthetic.drawn_defects import KINDS
from simplenet_edge.training.coreset import build_memory
from simplenet_edge.training.features import extract_features
from simplenet_edge.training.loop import set_statistics

__all__ = ["ProbeImages", "drawn_auroc", "probe_images", "window_size"]

WINDOW = 512
"""The side of a window, in the camera's pixels: what a probe takes does not grow with the camera."""
_N_TRAIN, _N_GOOD = 24, 20
_MEMORY = 1000
_LEAST_IMAGES = 4
_STEP = 16  # model pixels: whole cells of every layer that is used


@dataclass(frozen=True)
class ProbeImages:
    """Windows to learn from, good ones to be judged, and those with a defect of each kind drawn on them."""

    image_hw: tuple[int, int]  # the images' median height and width, pixels
    aspects: tuple[float, float]  # height through width: the 10 % with the least, and with the most
    train: tuple[Frames, ...]
    good: tuple[Frames, ...]
    drawn: tuple[Frames, ...]  # of all kinds


def probe_images(good: Sequence[Sample], bit_depth: int, seed: int = 0) -> ProbeImages | None:
    """Windows of at most `_N_TRAIN + _N_GOOD` of the images, drawn by `seed`; None where fewer than 4 can be used.

    Images of other sizes are brought to the median size first. Files that can't be read and flat windows are left out:
    whoever trains on them says so.
    """
    rng = np.random.default_rng(seed)
    sizes: dict[Path, tuple[int, int]] = {}
    for i in rng.permutation(len(good)):
        if (image := _read(good[i].path, bit_depth)) is not None:
            sizes[good[i].path] = (image.shape[0], image.shape[1])
        if len(sizes) == _N_TRAIN + _N_GOOD:
            break
    if not sizes:
        return None
    heights, widths = np.array(list(sizes.values())).T
    height, width = int(np.median(heights)), int(np.median(widths))
    low, high = np.percentile(heights / widths, (10, 90))
    images = (_read(path, bit_depth) for path in sizes)  # anew: all at once may not fit into memory
    windows = [_window(image, (height, width)) for image in images if image is not None]
    windows = [window for window in windows if np.ptp(window) > FLAT_RANGE]
    if len(windows) < _LEAST_IMAGES:
        return None
    n_train = round(len(windows) * _N_TRAIN / (_N_TRAIN + _N_GOOD))
    held = windows[n_train:]
    drawn = [draw(rng, window) for draw in KINDS.values() for window in held]
    return ProbeImages((height, width), (float(low), float(high)), tuple(windows[:n_train]), tuple(held), tuple(drawn))


def window_size(images: ProbeImages, size_hw: tuple[int, int]) -> tuple[int, int]:
    """The height and width in model pixels of the windows in a model of that input size."""
    height, width = (
        max(4 * _STEP, _STEP * round(window * side / (image * _STEP)))
        for window, side, image in zip(images.train[0].shape[:2], size_hw, images.image_hw, strict=True)
    )
    return height, width


def drawn_auroc(
    untrained: SimpleNet, images: ProbeImages, size_hw: tuple[int, int], memory_size: int = _MEMORY
) -> float:
    """AUROC of windows with a drawn defect against good ones, for a model like `untrained` of input `size_hw`."""
    height, width = window_size(images, size_hw)
    spec = InputSpec(height, width, mean=untrained.input_spec.mean, std=untrained.input_spec.std)
    config = dataclasses.replace(untrained.config, memory_size=memory_size)
    model = SimpleNet(config, spec, untrained.backbone).to(untrained.pixel_mean.device).eval()
    memory = model.memory
    assert memory is not None
    frames = [preprocess(window, spec) for window in images.train]
    judged = (*images.good, *images.drawn)
    embedder = FrameEmbedder(model, len(frames) + len(judged))
    with tempfile.TemporaryDirectory() as folder:
        cache = extract_features(
            model, frames, len(frames), Path(folder), key="", budget_bytes=2**30, seed=0, embedder=embedder
        )
        set_statistics(model, cache, None)
        build_memory(model, cache, seed=0)

    @torch.inference_mode()
    def score(window: Frames) -> float:
        rows = model.standardizer(embedder(preprocess(window, spec)[np.newaxis]))
        scores: torch.Tensor = memory(rows, rows.new_zeros(len(rows)))
        return float(image_scores(scores.reshape(1, *model.grid_hw), model.config.score_top_k))

    scores = [score(window) for window in judged]
    labels = np.arange(len(scores)) >= len(images.good)
    found = image_auroc(np.array(scores, np.float32), labels)
    assert found is not None
    return found


def _read(path: Path, bit_depth: int) -> Frames | None:
    """The image, or None where the file is none."""
    try:
        return read_image(path, bit_depth)
    except DataError:
        return None


def _window(image: Frames, image_hw: tuple[int, int]) -> Frames:
    """The middle of an image after it is brought to `image_hw`, at most `WINDOW` pixels high and wide."""
    if image.shape[:2] != image_hw:
        image = np.asarray(cv2.resize(image, (image_hw[1], image_hw[0]), interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (max(0, side - WINDOW) // 2 for side in image_hw)
    return np.ascontiguousarray(image[top : top + WINDOW, left : left + WINDOW])
