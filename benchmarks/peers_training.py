"""Train anomalib's PatchCore and SuperSimpleNet beside SimpleNet Edge: same images, resolution, backbone and figures.

This is one dataset with MobileNetV2, and PatchCore's coreset takes as long as it takes: the accuracy that `peers.py`
puts beside its times. `datasets.py` compares over several data sets, with the default backbone and a CPU budget.

`peer_models.py` runs anomalib's own model code; the figures are `simplenet_edge.evaluation.evaluator`'s for all. It has
its own environment:

    python -m venv anomalib-env && anomalib-env/bin/pip install anomalib==2.7.0 -e '.[train]'
    OMP_NUM_THREADS=2 anomalib-env/bin/python benchmarks/peers_training.py --data magnetic_tile \\
        --weights mobilenet_v2_imagenet.pth

Each method's row goes into the JSON as soon as it is done; `--only` runs one of them and keeps the other rows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from datasets_figures import accuracy
from peer_models import train_patchcore, train_supersimplenet
from torch import nn

from simplenet_edge.data.layouts import Dataset, load_dataset
from simplenet_edge.data.reading import Split, read_frames, split_good
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.files import write_json
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Predictor
from simplenet_edge.system import cpu_model, installed_version
from simplenet_edge.threshold import conformal_threshold
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.trainer import train

BACKBONE = "mobilenet_v2"
ALPHA = 0.01


def pretrained_backbone(weights: Path, reference: SimpleNet) -> nn.Module:
    """torchvision's network with the weights, proven to give the features that SimpleNet Edge sees, and not others."""
    network = torchvision.models.get_model(BACKBONE)
    untrained = PatchcoreModel(reference.config.layers, network).feature_extractor
    image = torch.rand(1, 3, *reference.input_spec.size_hw, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = untrained(image)
    network.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    with torch.inference_mode():
        after = PatchcoreModel(reference.config.layers, network).feature_extractor(image)
        expected = reference.backbone(image)
    for layer, feature in zip(reference.config.layers, expected, strict=True):
        torch.testing.assert_close(after[layer], feature, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before[layer], feature, rtol=1e-1, atol=1e-1), f"{layer}: still random"
    return network


def measure(predictor: Predictor, dataset: Dataset, split: Split, reference: SimpleNet) -> dict[str, Any]:
    """The project's own figures; the threshold comes from the same calibration images for all."""
    spec = reference.input_spec
    good = [float(predictor.predict(read.frame[None]).score[0]) for read in read_frames(split.calibration, spec)]
    started = time.perf_counter()
    result = evaluate(predictor, dataset.test, spec, conformal_threshold(np.array(good), ALPHA))
    return {
        **accuracy(result),
        "seconds_a_test_image": (time.perf_counter() - started) / len(result.images),
    }


def main() -> None:
    """Train, measure and write one method after the other."""
    options = parsed_options()
    dataset = load_dataset(options.data)
    reference = build_simplenet(BACKBONE, weights=options.weights, size_hw=(256, 256))
    split = split_good(dataset.train, TrainConfig().calibration_share, seed=0)
    network = pretrained_backbone(options.weights, reference)
    frames = np.stack([read.frame for read in read_frames(split.train[: options.images], reference.input_spec)])

    def ours() -> tuple[Predictor, str]:
        with tempfile.TemporaryDirectory() as folder:
            run = train(reference, dataset.train, TrainConfig(alpha=ALPHA), Path(folder) / "run")
        seconds = run.record.seconds
        return run.model, f"of these {seconds.extraction:.1f} s extraction, {seconds.training:.1f} s training"

    methods: dict[str, Callable[[], tuple[Predictor, str]]] = {
        "patchcore": lambda: train_patchcore(frames, reference, network, coreset=options.coreset)[:2],
        "supersimplenet": lambda: train_supersimplenet(frames, reference, network, options.minutes)[:2],
        "simplenet_edge": ours,
    }
    result: dict[str, Any] = {"methods": {}}
    if options.output.is_file():
        result = json.loads(options.output.read_text(encoding="utf-8"))
    result["data"] = {"name": dataset.name, "train": len(frames), "test": len(dataset.test), "input": [256, 256]}
    result["backbone"] = {"name": BACKBONE, "layers": list(reference.config.layers), "weights": options.weights.name}
    result["versions"] = {name: installed_version(name) for name in ("anomalib", "torch", "torchvision", "timm")}
    for name in options.only or methods:
        torch.manual_seed(0)
        started, cpu_started = time.perf_counter(), time.process_time()
        predictor, note = methods[name]()
        row = {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],  # other work on the machine makes `seconds` longer, hardly `cpu_seconds`
            "note": note,
        }
        key = f"patchcore {options.coreset:.2%}" if name == "patchcore" else name  # a row for each size of its memory
        result["methods"][key] = {**row, "cpu": cpu_model(), **measure(predictor, dataset, split, reference)}
        print(key, json.dumps(result["methods"][key], indent=2))
        write_json(options.output, result)


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "peers_training.json")
    parser.add_argument("--coreset", type=float, default=0.01, help="PatchCore's share of patches kept")
    parser.add_argument("--minutes", type=float, default=20, help="SuperSimpleNet's training, in CPU time")
    parser.add_argument("--images", type=int, default=None, help="at most so many training images, for a quick try")
    parser.add_argument("--only", nargs="*", choices=("patchcore", "supersimplenet", "simplenet_edge"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
