"""A backbone that has never learnt anything: how much of the recipe's figure is the recipe's.

    python benchmarks/random_backbone.py --data DATASET --work FOLDER --paper-meta-epochs 4

ResNet18 with random weights, drawn once. The default recipe with some seeds, which draw the split, the two small
networks and the noise, beside the paper's recipe on raw features. The paper's learning rates are constant, so fewer
meta-epochs than its 40 are the beginning of the full run; how many were run stands in the result, with the image AUROC
after each. The last one is the figure. The best one is chosen on the test images, and stands under that label only.
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
from recipe import Images, Variant, grids, new_model, pixel_figures, test_figures, trained

from simplenet_edge.data import load_dataset
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.training import TrainConfig, paper_recipe
from simplenet_edge.training_run import write_json

BACKBONE = "resnet18"
PAPER = Variant(standardize=False)


def main() -> None:
    """Train, measure and write one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the embedded images, kept")
    parser.add_argument("--seeds", type=int, default=3, help="of the default recipe")
    parser.add_argument("--paper-meta-epochs", type=int, default=40, help="of the paper's recipe, seed 0; 0 leaves it")
    parser.add_argument("--output", type=Path, default=RESULTS / "random_backbone.json")
    options = parser.parse_args()
    model = new_model(BACKBONE, None, Variant(), 0)
    images = Images.embedded(model, load_dataset(options.data), options.work, kinds=())
    result: dict[str, Any] = {
        "machine": machine("torch", "torchvision", "numpy"),
        "threads": torch.get_num_threads(),
        "backbone": {"name": BACKBONE, "weights": "random, seed 0", "layers": list(model.config.layers)},
        "input": list(model.input_spec.size_hw),
        "default": [],
    }
    for seed in range(options.seeds):
        model = new_model(BACKBONE, None, Variant(), seed)
        row = run(model, images, TrainConfig(seed=seed), Variant())
        result["default"].append({"seed": seed, **row})
        print(json.dumps(result["default"][-1]), flush=True)
        write_json(options.output, result)
    if options.paper_meta_epochs:
        model = new_model(BACKBONE, None, PAPER, 0)
        config = dataclasses.replace(paper_recipe(TrainConfig(), model.grid_hw), meta_epochs=options.paper_meta_epochs)
        curve: list[float] = []
        row = run(model, images, config, PAPER, curve)
        best = max(range(len(curve)), key=curve.__getitem__)
        result["paper"] = {
            "meta_epochs": options.paper_meta_epochs,
            "meta_epochs_in_full": paper_recipe(TrainConfig(), model.grid_hw).meta_epochs,
            "seed": 0,
            **row,
            "test_image_auroc_after_each_meta_epoch": curve,
            "chosen_on_the_test_images": {"meta_epoch": best + 1, "test_image_auroc": curve[best]},
        }
        print(json.dumps(result["paper"]), flush=True)
        write_json(options.output, result)


def run(
    model: SimpleNet, images: Images, config: TrainConfig, variant: Variant, curve: list[float] | None = None
) -> dict[str, Any]:
    """Train the model; figures of the last one, and into `curve` the image AUROC after each meta-epoch."""
    calibration = images.is_calibration(config)

    def after(model: SimpleNet, meta_epoch: int) -> None:
        if curve is not None:
            curve.append(figures(model)["test_image_auroc"])
            print(f"meta-epoch {meta_epoch}: image AUROC {curve[-1]:.4f}", flush=True)

    def figures(model: SimpleNet) -> dict[str, Any]:
        good, test = (grids(model, rows).amax(dim=(1, 2)).numpy() for rows in (images.train[calibration], images.test))
        return test_figures(images, good, test)

    started = time.perf_counter()
    course, _ = trained(model, images.train[~calibration], config, variant, after)
    row = {"training_s": time.perf_counter() - started, **course.last, **figures(model)}
    return row | pixel_figures(model, images, grids(model, images.test))


if __name__ == "__main__":
    main()
