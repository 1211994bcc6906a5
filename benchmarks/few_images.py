"""What comes of 5, 10, 20 and 50 good images, all that somebody has on the first day.

    python benchmarks/few_images.py --shared FOLDER --work FOLDER

`--seeds` times so many training images are drawn, each of another part where parts are known, and the default training
runs on them with alpha 5 %. The product's own text says what its threshold promises. A draw that the product refuses
has a row with its message. A row for each set, number and draw goes into `results/few_images.json`; rows that are there
are not measured again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import Rows, chosen_sets, parser, spread, table, trained, training_options, training_seconds
from sets import ImageSet

from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import SimpleNetEdgeError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.spec import to_dict
from simplenet_edge.threshold import guarantee_text

ALPHA = 0.05
NUMBERS = (5, 10, 20, 50)


def drawn(images: ImageSet, number: int, seed: int) -> list[Sample]:
    """So many training images at random, of as many parts where parts are known; fewer where there are no more."""
    order = np.random.default_rng(seed).permutation(len(images.dataset.train))
    chosen: dict[str, Sample] = {}
    for sample in (images.dataset.train[i] for i in order):
        chosen.setdefault(images.parts.get(sample.name, sample.name), sample)
    return sorted(itertools.islice(chosen.values(), number), key=lambda sample: sample.name)


def measured(folder: Path, images: ImageSet, good: Sequence[Sample], seed: int, pairs: Sequence[str]) -> dict[str, Any]:
    """Train on some good images and evaluate on the test images of the set."""
    try:
        run = trained(good, folder, training_options(pairs, images, alpha=ALPHA), seed)
    except SimpleNetEdgeError as error:
        return {"refused": str(error)}
    result = evaluate(run.model, images.dataset.test, run.model.input_spec, run.operating_point)
    return {
        "image_auroc": result.metrics.image_auroc,
        "false_reject_rate": result.verdicts.false_reject_rate,
        "recall": result.verdicts.recall,
        "seconds": training_seconds(run),
        "operating_point": to_dict(run.operating_point),
        "text": guarantee_text(run.operating_point),
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each set and number of images, mean and deviation over the draws, as a Markdown table."""
    lines = []
    for name, number in dict.fromkeys((row["set"], row["good_images"]) for row in rows):
        own = [row for row in rows if (row["set"], row["good_images"]) == (name, number)]
        figures = [spread([row.get(key) for row in own]) for key in ("image_auroc", "false_reject_rate", "recall")]
        guaranteed = sum(row["operating_point"]["guaranteed"] for row in own if "operating_point" in row)
        seconds = spread([row.get("seconds") for row in own], 0)
        lines.append([name, number, *figures, f"{guaranteed} of {len(own)}", seconds])
    head = ["set", "good images", "image AUROC", "false rejects", "recall", "guaranteed", "seconds"]
    return table(head, lines)


def main() -> None:
    """Draw, train, measure and write one row after the other."""
    options = parser(__doc__, "few_images", seeds=3).parse_args()
    rows = Rows(options, "few_images", ("torch", "torchvision", "numpy"), alpha=ALPHA)
    for name, images in chosen_sets(options):
        for number, seed in itertools.product(NUMBERS, range(options.seeds)):
            key = {"set": name, "good_images": number, "seed": seed}
            good = drawn(images, number, seed)
            if len(good) == number and not rows.has(**key):
                rows.add(
                    **key, **measured(rows.folder / f"{name}-{number}-{seed}", images, good, seed, options.options)
                )
    print(summary(rows.rows))


if __name__ == "__main__":
    main()
