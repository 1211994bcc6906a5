"""What each part of the training recipe is worth: variants compared on good images alone, then shown on test images.

    python benchmarks/recipe.py --data DATASET --weights mobilenet_v2.pth --work FOLDER

Validation: the calibration images of a seed's split against the same images with a drawn defect (a pasted piece, a
scar, a stain, a line). The recipe is chosen by those figures; test images are only reported. Recall is at the conformal
threshold for alpha: on validation, `HALVES` times a random half of the calibration images sets it and the drawn defects
on the other half are judged; on test, all of them set it, as in the product. Features are embedded once, into --work,
and every variant trains on them with the project's own loop. Written to `results/recipe.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from machine import RESULTS, machine
from noise_variants import MarginFeedback, Noise, covariance_shaped, on_half_of_the_channels, on_some_channels
from torch import Tensor

from simplenet_edge.data.augment import AugmentConfig, augment
from simplenet_edge.data.layouts import Dataset, load_dataset
from simplenet_edge.data.reading import batched, fingerprint, read_frames, read_sample_mask, split_good
from simplenet_edge.evaluation.metrics import aupro, image_auroc, pixel_auroc, pixel_scores
from simplenet_edge.files import write_json
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.patches import image_scores
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import to_dict
from simplenet_edge.synthetic import drawn_defects
from simplenet_edge.synthetic.drawn_defects import KINDS
from simplenet_edge.threshold import conformal_threshold
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.features import FeatureCache, Moments
from simplenet_edge.training.loop import AfterMetaEpoch, TrainingState, train_networks

BATCH = 16
ALPHA = 0.01
HALVES = 100
AUGMENTED = "augmented"
HELD_OUT_IMAGES = 30
"""Training images that a variant with feedback looks at and doesn't train on."""

Rows = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """What differs from the default recipe: of the configuration, of the model, of the noise."""

    config: dict[str, Any] = field(default_factory=dict)
    hidden: int | None = None
    model: Literal["edge", "paper"] = "edge"
    frozen_projection: bool = False
    memory: int | None = None
    memory_dim: int | None = None
    augmented: bool = False
    noise: Noise | None = None
    feedback_target: float | None = None


BEFORE = {"whitening": None, "noise_std": 0.25, "discriminator_lr": 2e-4, "final_lr_share": 1.0}

VARIANTS = {
    "default": Variant(),
    "no memory": Variant(memory=0),
    "memory of 1000": Variant(memory=1000),
    "memory of 2000": Variant(memory=2000),
    "memory of 8000": Variant(memory=8000),
    "memory of 48 components": Variant(memory_dim=48),
    "memory of 96 components": Variant(memory_dim=96),
    "memory counts once": Variant({"memory_weight": 1.0}),
    "memory counts 4 times": Variant({"memory_weight": 4.0}),
    "memory counts 8 times": Variant({"memory_weight": 8.0}),
    "memory alone": Variant({"memory_weight": 1e4}),
    "an augmented frame beside each": Variant(augmented=True),
    "noise 0.5": Variant({"noise_std": 0.5}),
    "noise 2": Variant({"noise_std": 2.0}),
    "mix_noise: 0.5 to 0.97 in 8 scales": Variant({"noise_std": 0.5, "mix_noise": 8}),
    "mix_noise: 0.7 to 1.36 in 8 scales": Variant({"noise_std": 0.7, "mix_noise": 8}),
    "noise on half of the channels": Variant(noise=on_half_of_the_channels),
    "noise on a random share of the channels": Variant(noise=on_some_channels),
    "not whitened, covariance-shaped noise": Variant({"whitening": None}, noise=covariance_shaped),
    "noise by margin feedback, target 0.9": Variant(feedback_target=0.9),
    "noise by margin feedback, target 0.98": Variant(feedback_target=0.98),
    "frozen projection": Variant(frozen_projection=True),
    "no whitening, noise 0.25": Variant({"whitening": None, "noise_std": 0.25}),
    "no whitening, noise 1": Variant({"whitening": None}),
    "constant learning rate 2e-4": Variant({"discriminator_lr": 2e-4, "final_lr_share": 1.0}),
    "learning rate 1e-3": Variant({"discriminator_lr": 1e-3}),
    "discriminator 768 wide": Variant(hidden=768),
    "discriminator 192 wide": Variant(hidden=192),
    "narrow, constant rate, not whitened": Variant(BEFORE, hidden=192),
    "the paper's noise on raw features": Variant({**BEFORE, "noise_std": 0.015}, model="paper"),
}

CONTENDERS = ("no memory", "memory of 8000", "memory of 96 components", "an augmented frame beside each")
"""What the memory is worth, and what more of it would be: these get more seeds."""

IMAGE_SCORES: dict[str, Callable[[SimpleNet, Tensor], Tensor]] = {
    "the model's own": lambda model, grid: image_scores(grid, model.config.score_top_k),
    "max of the patch grid": lambda model, grid: grid.amax(dim=(1, 2)),
    "max of the smoothed map": lambda model, grid: model.anomaly_map(grid).amax(dim=(1, 2)),
    "mean of the top 3 patches": lambda model, grid: grid.flatten(1).topk(3).values.mean(dim=1),
    "mean of the top 30 patches": lambda model, grid: grid.flatten(1).topk(30).values.mean(dim=1),
}
"""From patch scores `(images, h, w)` to image scores `(images,)`; the first is the one of the table of variants."""


@dataclass(frozen=True)
class Images:
    """Embedding rows float16 `(images, patches, D)`: of good images, of each of them changed, of test images.

    Changed is drawn with a defect of a kind of `KINDS`, or augmented, under the name `AUGMENTED`.
    """

    dataset: Dataset
    train: Rows
    changed: dict[str, Rows]
    test: Rows
    masks: list[npt.NDArray[np.bool_] | None]

    @classmethod
    def embedded(
        cls, model: SimpleNet, dataset: Dataset, work: Path, kinds: Iterable[str] = (*KINDS, AUGMENTED)
    ) -> Images:
        """Embed with the backbone of `model`, or read what it left in `work`; `kinds` of changed images."""
        folder = work / images_key(model, dataset)
        reader = read_frames(dataset.test, model.input_spec, max_corrupt_share=0)
        masks = [read_sample_mask(read.sample, model.input_spec, read.image_hw) for read in reader]
        train, test = (_rows(model, dataset, name, folder) for name in ("train", "test"))
        return cls(dataset, train, {kind: _rows(model, dataset, kind, folder) for kind in kinds}, test, masks)

    def is_calibration(self, config: TrainConfig) -> npt.NDArray[np.bool_]:
        """Which of the good images are kept for calibration with that seed."""
        split = split_good(self.dataset.train, config.calibration_share, config.seed)
        return np.isin([sample.name for sample in self.dataset.train], [sample.name for sample in split.calibration])


def main() -> None:
    """Run the variants that were asked for and write the tables after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--work", type=Path, required=True, help="folder for the embedded images, kept")
    parser.add_argument("--seeds", type=int, default=3, help="of the default recipe and of the contenders")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", type=Path, default=RESULTS / "recipe.json")
    options = parser.parse_args()
    model = new_model(options.backbone, options.weights, Variant(), 0)
    images = Images.embedded(model, load_dataset(options.data), options.work)
    tables: dict[str, list[dict[str, Any]]] = {"variants": [], "image_scores": []}
    for name in options.variants:
        for seed in range(options.seeds if name in ("default", *CONTENDERS) else 1):
            model = new_model(options.backbone, options.weights, VARIANTS[name], seed)
            row, by_score = measured(model, images, VARIANTS[name], seed)
            tables["variants"].append({"variant": name, "seed": seed, **row})
            if name == "default":
                tables["image_scores"] += [{"score": score, "seed": seed, **values} for score, values in by_score]
            print(json.dumps(tables["variants"][-1]), flush=True)
            about = {"machine": machine("torch", "torchvision", "numpy"), "threads": torch.get_num_threads()}
            protocol = {"backbone": options.backbone, "alpha": ALPHA, "validation_halves": HALVES}
            write_json(options.output, {**about, **protocol, **tables})


def new_model(backbone: str, weights: Path | None, variant: Variant, seed: int) -> SimpleNet:
    """The model of a variant, untrained. `seed` draws the two small networks; a random backbone is always one."""
    model = build_simplenet(
        backbone,
        weights=weights,
        random_weights=weights is None,
        variant=variant.model,
        memory_size=variant.memory,
    )
    config = dataclasses.replace(
        model.config,
        discriminator_hidden=variant.hidden or model.config.discriminator_hidden,
        memory_dim=variant.memory_dim or model.config.memory_dim,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SimpleNet(config, model.input_spec, model.backbone)
    model.pre_projection.requires_grad_(not variant.frozen_projection)
    return model


def images_key(model: SimpleNet, dataset: Dataset) -> str:
    """What the embedded images depend on: the images, their size, layers and weights, and how defects are drawn."""
    digest = hashlib.sha256(fingerprint([*dataset.train, *dataset.test]).encode())
    config = dataclasses.replace(model.config, discriminator_hidden=None, standardize=True, memory_size=0, memory_dim=1)
    digest.update(json.dumps([to_dict(config), to_dict(model.input_spec)], sort_keys=True).encode())
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    digest.update(Path(drawn_defects.__file__).read_bytes())
    return f"{model.config.backbone}-{digest.hexdigest()[:16]}"


def _rows(model: SimpleNet, dataset: Dataset, name: str, folder: Path) -> Rows:
    """Rows of the training or test images, or of the training images drawn on or augmented."""
    path = folder / f"{name}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        samples = dataset.test if name == "test" else dataset.train
        rng = np.random.default_rng(list(KINDS).index(name) if name in KINDS else 0)
        draws = {**KINDS, AUGMENTED: lambda rng, frame: augment(frame, AugmentConfig(), rng)}
        draw = draws.get(name, lambda rng, frame: frame)
        frames = (draw(rng, read.frame) for read in read_frames(samples, model.input_spec, max_corrupt_share=0))
        shape = (len(samples), math.prod(model.grid_hw), model.config.target_embed_dim)
        rows = np.lib.format.open_memmap(folder / f".{name}.tmp", "w+", np.float16, shape)
        for i, batch in enumerate(batched(frames, BATCH)):
            with torch.inference_mode():
                embedding = model.embed(model.normalize(torch.from_numpy(np.stack(batch))))
            rows[i * BATCH : i * BATCH + len(batch)] = embedding.numpy().reshape(len(batch), *shape[1:])
        rows.flush()
        os.replace(folder / f".{name}.tmp", path)
    whole: Rows = np.load(path, mmap_mode="r")
    return whole


def measured(
    model: SimpleNet, images: Images, variant: Variant, seed: int
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Train one variant on a seed's split: its row of the table, and its image figures by image score."""
    config = dataclasses.replace(TrainConfig(seed=seed), **variant.config)
    calibration = images.is_calibration(config)
    started = time.perf_counter()
    rows = images.train[~calibration]
    if variant.augmented:
        rows = np.concatenate([rows, images.changed[AUGMENTED][~calibration]])
    state, noise = trained(model, rows, config, variant)
    assert state.last_epoch is not None
    row: dict[str, Any] = {"training_s": time.perf_counter() - started, **dataclasses.asdict(state.last_epoch)}
    if isinstance(noise, MarginFeedback):
        row["final_noise_std"] = noise.scale * config.noise_std
    good, test = grids(model, images.train[calibration]), grids(model, images.test)
    drawn = {kind: grids(model, images.changed[kind][calibration]) for kind in KINDS}
    by_score = []
    for name, of in IMAGE_SCORES.items():
        scores = {kind: of(model, grid).numpy() for kind, grid in {"good": good, "test": test, **drawn}.items()}
        scores_of_test, scores_of_good = scores.pop("test"), scores.pop("good")
        figures = {**validation_figures(scores_of_good, scores), **test_figures(images, scores_of_good, scores_of_test)}
        by_score.append((name, figures))
    return row | by_score[0][1] | pixel_figures(model, images, test), by_score


def trained(
    model: SimpleNet,
    rows: Rows,
    config: TrainConfig,
    variant: Variant,
    after: AfterMetaEpoch | None = None,
    kept: Path | None = None,
) -> tuple[TrainingState, Noise | None]:
    """Train the model on rows `(images, patches, D)`: its state, and the noise where that isn't the product's.

    With `kept`, a folder, it goes on from the checkpoint that it left there.
    """
    noise = variant.noise
    if variant.feedback_target is not None:
        held_out, rows = rows[:HELD_OUT_IMAGES].reshape(-1, rows.shape[2]), rows[HELD_OUT_IMAGES:]
        some = held_out[np.random.default_rng(config.seed).permutation(len(held_out))[:2048]]
        noise = MarginFeedback(model, torch.from_numpy(some.astype(np.float32)), config.margin, variant.feedback_target)
    replaced = mock.patch("simplenet_edge.training.step.add_noise", noise) if noise else nullcontext()
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder, replaced:
        torch.manual_seed(config.seed)
        state = train_networks(
            model,
            feature_cache(rows),
            config,
            kept or Path(folder),
            "benchmark",
            report=lambda *_: None,
            after_meta_epoch=after,
        )
    return state, noise


def feature_cache(images: Rows) -> FeatureCache:
    """The cache that training would have written for those images `(images, patches, D)`."""
    n_images, _, dim = images.shape
    moments = Moments(dim, full=True)
    for batch in np.array_split(images, math.ceil(n_images / BATCH)):
        moments.add(batch.reshape(-1, dim))
    std = np.maximum(np.sqrt(np.diagonal(moments.covariance)), 1e-6)
    return FeatureCache(images.reshape(-1, dim), moments.mean, std, moments.covariance / np.outer(std, std), n_images)


@torch.inference_mode()
def grids(model: SimpleNet, images: Rows) -> Tensor:
    """Patch scores `(images, h, w)`."""
    scores = [
        model.score_patches(torch.from_numpy(batch.astype(np.float32)).flatten(0, 1))
        for batch in np.array_split(images, math.ceil(len(images) / BATCH))
    ]
    return model.patch_maker.unpatch_scores(torch.cat(scores), model.grid_hw)


def validation_figures(good: Scores, drawn: dict[str, Scores]) -> dict[str, Any]:
    """AUROC by kind of drawn defect and its mean; recall at the threshold that the other half of `good` sets."""
    aurocs = {kind: auroc(good, scores) for kind, scores in drawn.items()}
    rng, recalls, rejects = np.random.default_rng(0), [], []
    for _ in range(HALVES):
        order = rng.permutation(len(good))
        setting, judged = order[: len(good) // 2], order[len(good) // 2 :]
        threshold = conformal_threshold(good[setting], ALPHA).threshold
        recalls.append(np.mean([scores[judged] > threshold for scores in drawn.values()]))
        rejects.append(np.mean(good[judged] > threshold))
    return {
        "validation_auroc": float(np.mean(list(aurocs.values()))),
        "validation_recall": float(np.mean(recalls)),
        "validation_false_reject_rate": float(np.mean(rejects)),
        "validation": aurocs,
    }


def test_figures(images: Images, good: Scores, test: Scores) -> dict[str, Any]:
    """AUROC on the test images, recall and false rejects at the threshold of `good`; nothing is chosen by them."""
    labels = np.array([sample.defect is not None for sample in images.dataset.test])
    rejected = test > conformal_threshold(good, ALPHA).threshold
    return {
        "test_image_auroc": auroc(test[~labels], test[labels]),
        "test_recall": float(rejected[labels].mean()),
        "test_false_reject_rate": float(rejected[~labels].mean()),
    }


def pixel_figures(model: SimpleNet, images: Images, patch_scores: Tensor) -> dict[str, Any]:
    """Pixel figures on the test images that have a mask."""
    known = [
        (a, m) for a, m in zip(model.anomaly_map(patch_scores).numpy(), images.masks, strict=True) if m is not None
    ]
    pixels = pixel_scores([a for a, _ in known], [m for _, m in known])
    return {"test_pixel_auroc": pixel_auroc(pixels), "test_aupro": aupro(pixels)}


def auroc(good: Scores, defective: Scores) -> float:
    """Image AUROC from the scores of good and of defective images."""
    value = image_auroc(np.concatenate([good, defective]), np.arange(len(good) + len(defective)) >= len(good))
    assert value is not None
    return value


if __name__ == "__main__":
    main()
