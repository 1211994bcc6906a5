"""What each part of the training recipe is worth: variants compared on good images alone, then shown on test images.

    python benchmarks/recipe.py --data DATASET --weights mobilenet_v2.pth --work FOLDER

Validation: the calibration images of seed 0 against the same images with a drawn defect (a pasted piece, a scar, a
stain, a line). The recipe was chosen by that figure; test images are only reported. Features are embedded once, into
--work, and every variant trains on them with the project's own loop. Written to `results/recipe.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from machine import machine

from simplenet_edge.data import Dataset, load_dataset, read_frames, read_sample_mask, split_good
from simplenet_edge.features import FeatureCache, Moments
from simplenet_edge.metrics import aupro, image_auroc, pixel_auroc, pixel_scores
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames
from simplenet_edge.training import TrainConfig
from simplenet_edge.training_loop import train_networks
from simplenet_edge.training_run import write_json

BATCH = 16
BEFORE = {"whitening": None, "noise_std": 0.25, "discriminator_lr": 2e-4, "final_lr_share": 1.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "noise 0.5": {"noise_std": 0.5},
    "no whitening": {"whitening": None, "noise_std": 0.25},
    "constant learning rate 2e-4": {"discriminator_lr": 2e-4, "final_lr_share": 1.0},
    "discriminator 768 wide": {"hidden": 768},
    "discriminator 192 wide": {"hidden": 192},
    "learning rate 1e-3": {"discriminator_lr": 1e-3},
    "narrow, constant rate, not whitened": {**BEFORE, "hidden": 192},
    "the paper's noise on raw features": {**BEFORE, "noise_std": 0.015, "standardize": False},
}
"""What differs from the default recipe; `hidden` and `standardize` belong to the model."""


def main() -> None:
    """Run the variants that were asked for and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--work", type=Path, required=True, help="folder for the embedded images, kept")
    parser.add_argument("--seeds", type=int, default=3, help="of the default recipe; variants run with seed 0")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "recipe.json")
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    model = new_model(options, {}, 0)
    images = {name: embedded(model, dataset, name, options.work) for name in ("train", "test", *KINDS)}
    results: dict[str, Any] = {
        "machine": machine("torch", "torchvision", "numpy"),
        "backbone": options.backbone,
        "variants": [],
    }
    for name in options.variants:
        for seed in range(options.seeds if name == "default" else 1):
            row = {"variant": name, "seed": seed, **run(options, dataset, images, VARIANTS[name], seed)}
            results["variants"].append(row)
            print(
                {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True
            )
            write_json(options.output, results)


def new_model(options: argparse.Namespace, variant: dict[str, Any], seed: int) -> SimpleNet:
    """The model of a variant, untrained. Random weights stay those of seed 0, as the embedded images are theirs."""
    model = build_simplenet(
        options.backbone,
        weights=options.weights,
        random_weights=options.weights is None,
        standardize=variant.get("standardize", True),
        seed=seed if options.weights else 0,
    )
    if "hidden" not in variant:
        return model
    config = dataclasses.replace(model.config, discriminator_hidden=variant["hidden"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SimpleNet(config, model.input_spec, model.backbone)


def embedded(model: SimpleNet, dataset: Dataset, name: str, work: Path) -> npt.NDArray[np.float16]:
    """Embedding rows float16 `(images, patches, D)` of the training or test images, or of one kind of drawn defect."""
    path = work / f"{name}.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    samples = dataset.test if name == "test" else dataset.train
    if name in KINDS:
        samples = split_good(dataset.train, TrainConfig().calibration_share, 0).calibration
    frames = [frame for _, frame in read_frames(samples, model.input_spec)]
    if name in KINDS:
        rng = np.random.default_rng(list(KINDS).index(name))
        frames = [KINDS[name](rng, frame) for frame in frames]
    rows = []
    for i in range(0, len(frames), BATCH):
        with torch.inference_mode():
            embedding = model.embed(model.normalize(torch.from_numpy(np.stack(frames[i : i + BATCH]))))
        rows.append(embedding.half().numpy().reshape(len(frames[i : i + BATCH]), -1, embedding.shape[1]))
    work.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(rows))
    return np.load(path, mmap_mode="r")


def run(
    options: argparse.Namespace,
    dataset: Dataset,
    images: dict[str, npt.NDArray[np.float16]],
    variant: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Train one variant on the training images of a seed's split; its figures."""
    fields = {key: value for key, value in variant.items() if key not in ("hidden", "standardize")}
    config = dataclasses.replace(TrainConfig(seed=seed), **fields)
    model = new_model(options, variant, seed)
    split = split_good(dataset.train, config.calibration_share, seed)
    calibration = np.isin([sample.name for sample in dataset.train], [sample.name for sample in split.calibration])
    cache = feature_cache(images["train"][~calibration])
    started = time.perf_counter()
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        course = train_networks(model, cache, config, Path(folder), "benchmark", report=lambda *_: None)
    figures: dict[str, Any] = {"training_s": time.perf_counter() - started, **course.last}
    good = grids(model, images["train"][calibration])
    if seed == 0:  # the images with drawn defects are those of this split
        each = [auroc(good, grids(model, images[kind])) for kind in KINDS]
        figures |= {"validation_auroc": float(np.mean(each)), "validation": dict(zip(KINDS, each, strict=True))}
    return figures | test_figures(model, dataset, grids(model, images["test"]))


def feature_cache(rows: npt.NDArray[np.float16]) -> FeatureCache:
    """The cache that training would have written for those images `(images, patches, D)`."""
    n_images, _, dim = rows.shape
    moments = Moments(dim, full=True)
    for batch in np.array_split(rows, math.ceil(n_images / BATCH)):
        moments.add(batch.reshape(-1, dim))
    std = np.maximum(np.sqrt(np.diagonal(moments.covariance)), 1e-6)
    return FeatureCache(rows.reshape(-1, dim), moments.mean, std, moments.covariance / np.outer(std, std), n_images)


@torch.inference_mode()
def grids(model: SimpleNet, images: npt.NDArray[np.float16]) -> torch.Tensor:
    """Patch scores `(images, h, w)`."""
    scores = [
        model.score_patches(torch.from_numpy(batch.astype(np.float32)).flatten(0, 1))
        for batch in np.array_split(images, math.ceil(len(images) / BATCH))
    ]
    return model.patch_maker.unpatch_scores(torch.cat(scores), model.grid_hw)


def auroc(good: torch.Tensor, defective: torch.Tensor) -> float:
    """Image AUROC from patch scores `(images, h, w)` of good and of defective images."""
    scores = torch.cat([good, defective]).amax(dim=(1, 2)).numpy()
    value = image_auroc(scores, np.arange(len(scores)) >= len(good))
    assert value is not None
    return value


def test_figures(model: SimpleNet, dataset: Dataset, patch_scores: torch.Tensor) -> dict[str, Any]:
    """Image and pixel figures on the test images; nothing is chosen by them."""
    labels = np.array([sample.defect is not None for sample in dataset.test])
    scores = patch_scores.amax(dim=(1, 2)).numpy()
    maps: Sequence[npt.NDArray[np.float32]] = list(model.anomaly_map(patch_scores).numpy())
    masks = [read_sample_mask(sample, model.input_spec) for sample in dataset.test]
    known = [(a, m) for a, m in zip(maps, masks, strict=True) if m is not None]
    pixels = pixel_scores([a for a, _ in known], [m for _, m in known])
    return {
        "test_image_auroc": image_auroc(scores, labels),
        "test_pixel_auroc": pixel_auroc(pixels),
        "test_aupro": aupro(pixels),
    }


def pasted(rng: np.random.Generator, frame: Frames) -> Frames:
    """A piece of the image in another place, a little brighter or darker (CutPaste; Li et al. 2021)."""
    height, width = frame.shape[:2]
    area, ratio = height * width * rng.uniform(0.004, 0.03), math.exp(rng.uniform(-1, 1))
    h, w = (min(side // 2, max(6, round(math.sqrt(area * r)))) for side, r in ((height, ratio), (width, 1 / ratio)))
    (y, to_y), (x, to_x) = rng.integers(0, height - h, 2), rng.integers(0, width - w, 2)
    changed = frame.copy()
    changed[to_y : to_y + h, to_x : to_x + w] = np.clip(frame[y : y + h, x : x + w] * rng.uniform(0.85, 1.15), 0, 255)
    return changed


def scarred(rng: np.random.Generator, frame: Frames) -> Frames:
    """A thin turned strip of the image in another place."""
    height, width = frame.shape[:2]
    box = ((rng.uniform(0, width), rng.uniform(0, height)), (rng.uniform(12, 50), rng.uniform(2, 5)))
    corners = cv2.boxPoints((*box, rng.uniform(0, 180)))
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.round(corners * 8).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=3)
    moved = np.roll(frame, (rng.integers(height), rng.integers(width)), (0, 1)) * rng.uniform(0.75, 1.25)
    return blended(frame, mask, moved)


def stained(rng: np.random.Generator, frame: Frames) -> Frames:
    """A ragged blot, brighter or darker by 8 to 25 %."""
    height, width = frame.shape[:2]
    cells = int(rng.integers(6, 12))
    noise = cv2.resize(rng.standard_normal((cells, cells), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width]
    spread = rng.uniform(8, 35)
    distance = (y - rng.integers(height)) ** 2 + (x - rng.integers(width)) ** 2
    blot = np.exp(-distance / (2 * spread**2)) * (1 + 0.5 * noise)
    mask = 1 / (1 + np.exp(-(blot - 0.5) / rng.uniform(0.03, 0.15)))
    return blended(frame, mask.astype(np.float32), frame * (1 + rng.choice([-1, 1]) * rng.uniform(0.08, 0.25)))


def lined(rng: np.random.Generator, frame: Frames) -> Frames:
    """A wandering line one or two pixels wide, brighter or darker by 12 to 40 %."""
    height, width = frame.shape[:2]
    steps = int(rng.integers(8, 30))
    angle = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.35, steps))
    start = rng.uniform(0, 1, 2) * (width, height)
    points = start + 3 * np.cumsum(np.column_stack([np.cos(angle), np.sin(angle)]), axis=0)
    mask = np.zeros((height, width), np.float32)
    line = [np.round(points * 8).astype(np.int32)]
    cv2.polylines(mask, line, False, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA, 3)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.7), np.float32)
    return blended(frame, mask, frame * (1 + rng.choice([-1, 1]) * rng.uniform(0.12, 0.4)))


def blended(frame: Frames, mask: npt.NDArray[np.float32], other: npt.NDArray[np.floating[Any]]) -> Frames:
    """`other` where the mask float32 `(H, W)` is one, `frame` where it is zero."""
    share = mask[..., None]
    return np.asarray(np.clip(frame * (1 - share) + other * share, 0, 255).astype(np.uint8))


KINDS = {"pasted": pasted, "scar": scarred, "stain": stained, "line": lined}

if __name__ == "__main__":
    main()
