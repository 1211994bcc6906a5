"""A backbone that has never learnt anything: how much of the recipe's figure is the recipe's.

    python benchmarks/random_backbone.py --data DATASET --work FOLDER --paper-meta-epochs 4

ResNet18 with random weights, drawn once. The default recipe, with its memory and without, with some seeds, which draw
the split, the two small networks and the noise, beside the paper's recipe on raw features. The paper's learning rates
are constant, so fewer meta-epochs than its 40 are the beginning of the full run; how many were run stands in the
result, with the image AUROC after each. The last one is the figure. The best one is chosen on the test images, and
stands under that label only. The paper's run takes hours on a CPU: broken off, it goes on from its last meta-epoch
where `--work` is the same.
Written to `results/random_backbone.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from machine import RESULTS, machine
from recipe import Images, Variant, grids, images_key, new_model, pixel_figures, test_figures, trained

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.files import write_json
from simplenet_edge.model.patches import image_scores
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.recipes import paper_recipe

BACKBONE = "resnet18"
OURS = {"default": Variant(), "no memory": Variant(memory=0)}
PAPER = Variant(model="paper")


def main() -> None:
    """Train, measure and write one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the embedded images, kept")
    parser.add_argument("--seeds", type=int, default=3, help="of the default recipe; 0 keeps those of the file")
    parser.add_argument("--paper-meta-epochs", type=int, default=40, help="of the paper's recipe, seed 0; 0 leaves it")
    parser.add_argument("--output", type=Path, default=RESULTS / "random_backbone.json")
    options = parser.parse_args()
    model = new_model(BACKBONE, None, Variant(), 0)
    images = Images.embedded(model, load_dataset(options.data), options.work, kinds=())
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.is_file() else {}
    about = {"machine": machine("torch", "torchvision", "numpy"), "threads": torch.get_num_threads()}
    result["backbone"] = {"name": BACKBONE, "weights": "random, seed 0", "layers": list(model.config.layers)}
    result["input"] = list(model.input_spec.size_hw)
    for name, variant in OURS.items() if options.seeds else ():
        result[name] = {**about, "runs": []}
        for seed in range(options.seeds):
            model = new_model(BACKBONE, None, variant, seed)
            row = {"seed": seed, **run(model, images, TrainConfig(seed=seed), variant)}
            result[name]["runs"].append(row)
            print(name, json.dumps(row), flush=True)
            write_json(options.output, result)
    if options.paper_meta_epochs:
        model = new_model(BACKBONE, None, PAPER, 0)
        config = dataclasses.replace(paper_recipe(TrainConfig(), model.grid_hw), meta_epochs=options.paper_meta_epochs)
        folder = options.work / f"paper-{images_key(model, images.dataset)}"
        follow_paper(model, images, config, folder, about, result, options.output)


def run(model: SimpleNet, images: Images, config: TrainConfig, variant: Variant) -> dict[str, Any]:
    """Train the model and measure it."""
    calibration = images.is_calibration(config)
    started = time.perf_counter()
    state, _ = trained(model, images.train[~calibration], config, variant)
    assert state.last_epoch is not None
    row = {"training_s": time.perf_counter() - started, **dataclasses.asdict(state.last_epoch)}
    row |= figures(model, images, config)
    return row | pixel_figures(model, images, grids(model, images.test))


def follow_paper(
    model: SimpleNet,
    images: Images,
    config: TrainConfig,
    folder: Path,
    about: dict[str, Any],
    result: dict[str, Any],
    output: Path,
) -> None:
    """Train the paper's model, measured and written after each meta-epoch; a broken run in `folder` goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "curve.json"
    curve: list[float] = json.loads(log.read_text()) if log.is_file() else []

    def after(model: SimpleNet, meta_epoch: int) -> None:
        row = figures(model, images, config)
        curve[meta_epoch - 1 :] = [row["test_image_auroc"]]
        best = max(range(len(curve)), key=curve.__getitem__)
        result["paper"] = {
            **about,
            "meta_epochs": meta_epoch,
            "meta_epochs_in_full": paper_recipe(config, model.grid_hw).meta_epochs,
            "seed": config.seed,
            **row,
            **pixel_figures(model, images, grids(model, images.test)),
            "test_image_auroc_after_each_meta_epoch": curve,
            "chosen_on_the_test_images": {"meta_epoch": best + 1, "test_image_auroc": curve[best]},
        }
        write_json(log, curve)
        write_json(output, result)
        print(f"meta-epoch {meta_epoch}: image AUROC {curve[-1]:.4f}", flush=True)

    trained(model, images.train[~images.is_calibration(config)], config, PAPER, after, folder)


def figures(model: SimpleNet, images: Images, config: TrainConfig) -> dict[str, Any]:
    """Image figures by the model's own score, at the threshold of the calibration images."""
    good, test = (
        image_scores(grids(model, rows), model.config.score_top_k).numpy()
        for rows in (images.train[images.is_calibration(config)], images.test)
    )
    return test_figures(images, good, test)


if __name__ == "__main__":
    main()
