"""Accuracy on several data sets beside anomalib's PatchCore, PaDiM and SuperSimpleNet, each within a CPU budget.

    python -m venv anomalib-env && anomalib-env/bin/pip install anomalib==2.7.0 elpv-dataset -e '.[export]'
    anomalib-env/bin/python benchmarks/datasets.py --shared FOLDER --work FOLDER

This project trains with its defaults, `--seeds` times; a seed draws the split too. The peers see the same training and
calibration images, frames, layers and weights as the model of that seed, read off it. `--minutes` of CPU time is what
each of them has to train: a coreset that is not chosen by then is cut to the patches chosen so far, and its row says
`"finished": false`; PaDiM needs far less. Thresholds are for alpha 1 %, from the same calibration images and parts.

A row for each set, method and seed goes into `results/datasets.json` as soon as it is measured; rows that are there
are not measured again. A method that fails has a row with the reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets_figures import accuracy, summary
from peer_models import Trained, same_features, train_padim, train_patchcore, train_supersimplenet
from runs import Rows, chosen_sets, parser, trained, training_options, training_seconds
from sets import ImageSet
from torch import nn

from simplenet_edge.data.reading import Split, read_frames
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, InputSpec, OperatingPoint, Predictor, to_dict
from simplenet_edge.training.calibration import calibration_scores
from simplenet_edge.training.run import BACKBONE_WEIGHTS, TrainingRun

ALPHA = 0.01
OURS = "simplenet_edge"
PEERS: dict[str, Callable[[Frames, SimpleNet, nn.Module, float], Trained]] = {
    "patchcore 1%": partial(train_patchcore, coreset=0.01),
    "patchcore 10%": partial(train_patchcore, coreset=0.1),
    "padim": lambda frames, reference, network, minutes: train_padim(frames, reference, network),
    "supersimplenet": train_supersimplenet,
}
"""Each is called with the training frames, the reference, the network and its minutes."""


def figures(predictor: Predictor, images: ImageSet, spec: InputSpec, point: OperatingPoint) -> dict[str, Any]:
    """The project's own figures on the test images."""
    started = time.perf_counter()
    result = evaluate(predictor, images.dataset.test, spec, point)
    return {
        **accuracy(result),
        "operating_point": to_dict(point),
        "seconds_per_test_image": (time.perf_counter() - started) / len(result.images),
    }


def our_row(run: TrainingRun, images: ImageSet) -> dict[str, Any]:
    """What the product chose, how long it took, and its figures."""
    model, seconds = run.model, run.record.seconds
    return {
        "finished": True,
        "note": run.record.ended,
        "backbone": model.config.backbone,
        "layers": list(model.config.layers),
        "weights": run.record.versions[BACKBONE_WEIGHTS],
        "input": list(model.input_spec.size_hw),
        "resize": model.input_spec.resize,
        "seconds": training_seconds(run),
        "seconds_extraction": seconds.extraction,
        "seconds_training": seconds.training,
        "seconds_calibration": seconds.calibration,
        **figures(model, images, model.input_spec, run.operating_point),
    }


def peer_row(
    method: str, run: TrainingRun, split: Split, frames: Frames, images: ImageSet, minutes: float
) -> dict[str, Any]:
    """Train and measure one peer on the split of `run`; where it fails, why."""
    spec = run.model.input_spec
    torch.manual_seed(run.record.train["seed"])
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        with same_features(run.model) as network:
            peer, note, finished = PEERS[method](frames, run.model, network, minutes)
        row = {
            "finished": finished,
            "note": note,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "load": os.getloadavg()[0],  # other work on the machine makes `seconds` longer, hardly `cpu_seconds`
        }
        parts = run.record.parts.calibration if run.record.parts is not None else None
        calibration = calibration_scores(peer, split.calibration, spec, parts=parts)
        return {**row, **figures(peer, images, spec, calibration.operating_point(ALPHA))}
    except Exception as error:  # of somebody else's code: the other rows matter too
        return {"finished": False, "failure": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Train, measure and write one row after the other."""
    cli = parser(__doc__, "datasets", seeds=3)
    cli.add_argument("--minutes", type=float, default=15, help="of CPU time for each peer's training")
    cli.add_argument("--peer-seeds", type=int, default=1, help="how many of the seeds the peers are trained on")
    cli.add_argument("--methods", nargs="*", choices=[OURS, *PEERS], default=[OURS, *PEERS])
    options = cli.parse_args()
    rows = Rows(
        options, "datasets", ("anomalib", "torch", "torchvision", "numpy"), alpha=ALPHA, peer_minutes=options.minutes
    )
    for name, images in chosen_sets(options):
        for seed in range(options.seeds):
            wanted = [OURS] if seed >= options.peer_seeds else [OURS, *PEERS]
            missing = [m for m in wanted if m in options.methods and not rows.has(set=name, method=m, seed=seed)]
            if not missing:
                continue
            training = training_options(options.options, images, alpha=ALPHA)
            run = trained(images.dataset.train, rows.folder / f"{name}-{seed}", training, seed)
            by_name = {sample.name: sample for sample in images.dataset.train}
            split = Split(
                tuple(by_name[sample] for sample in run.record.split.train),
                tuple(by_name[sample] for sample in run.record.split.calibration),
            )
            frames = None
            for method in missing:
                if method == OURS:
                    rows.add(set=name, method=method, seed=seed, **our_row(run, images))
                    continue
                if frames is None:
                    frames = np.stack([read.frame for read in read_frames(split.train, run.model.input_spec)])
                row = peer_row(method, run, split, frames, images, options.minutes)
                rows.add(set=name, method=method, seed=seed, **row)
    print(summary(rows.rows))


if __name__ == "__main__":
    main()
