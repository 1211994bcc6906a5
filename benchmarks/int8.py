"""What INT8 costs in accuracy, backbone and head, learned, and with the float run's head on the quantised backbone.

    python benchmarks/int8.py --shared FOLDER --work FOLDER

For each set and seed a default training, and the same in INT8 (`training/int8.py`): image AUROC, AUPRO, false rejects
and recall at the run's own threshold. `unlearned` is the float run's head, in float, on the quantised backbone, as
every toolkit does it that quantises after training, at the float run's threshold. A row for each set, seed and way goes
into `results/int8.json`; rows that are there are not measured again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from datasets_figures import accuracy
from runs import Rows, chosen_sets, parser, spread, table, trained, training_options

from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.training.int8 import int8_run

WAYS = ("float", "int8", "unlearned")


def main() -> None:
    """Train, measure and write row by row."""
    options = parser(__doc__, "int8", seeds=3).parse_args()
    rows = Rows(options, "int8", ("torch", "torchvision", "numpy"))
    for name, images in chosen_sets(options):
        for seed in range(options.seeds):
            if all(rows.has(set=name, seed=seed, way=way) for way in WAYS):
                continue
            folder = rows.folder / f"{name}-{seed}"
            run = trained(images.dataset.train, folder, training_options(options.options, images), seed)
            other = int8_run(run)
            unlearned = copy.deepcopy(run.model)
            unlearned.backbone = other.model.backbone
            models = {"float": run.model, "int8": other.model, "unlearned": unlearned}
            for way, model in models.items():
                if not rows.has(set=name, seed=seed, way=way):
                    owner = other if way == "int8" else run
                    found = accuracy(evaluate(model, images.dataset.test, model.input_spec, owner.operating_point))
                    seconds = sum(vars(owner.record.seconds).values())
                    rows.add(set=name, seed=seed, way=way, seconds=None if way == "unlearned" else seconds, **found)
    print(summary(rows.rows))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each set and way, mean and deviation over the seeds, as a Markdown table."""
    keys = ("image_auroc", "aupro", "false_reject_rate", "recall")
    lines = []
    for name in dict.fromkeys(row["set"] for row in rows):
        for way in WAYS:
            same = [row for row in rows if (row["set"], row["way"]) == (name, way)]
            lines.append((name, way, *(spread([row[key] for row in same]) for key in keys)))
    return table(("set", "backbone", "image AUROC", "AUPRO", "false rejects", "recall"), lines)


if __name__ == "__main__":
    main()
