"""Which edge backbone finds most drawn defects in the same time: EfficientNet-Lite0 to 2, MobileNetV2, ResNet18.

    python benchmarks/backbones.py --shared FOLDER --work FOLDER

Each backbone at each input size that `--size auto` tries: the AUROC on defects drawn on the good images, by the patch
memory alone as in `train --latency`, and the milliseconds per frame of the folded graph in ONNX Runtime. No test image
is looked at. At equal latency means: within the time of EfficientNet-Lite0 at that size, each backbone at its best
size. One whose weights can't be had is named as such. Written to `results/backbones.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs import Rows, chosen_sets, parser

from simplenet_edge.errors import WeightsError
from simplenet_edge.model.defaults import DEFAULT_BACKBONE
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import prepare
from simplenet_edge.workflows.input_size import input_sizes
from simplenet_edge.workflows.model_choice import frame_ms
from simplenet_edge.workflows.probe import drawn_auroc, probe_images

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2", "resnet18")
SLACK = 1.05  # of a time that is called equal


def main() -> None:
    """Measure and write row by row."""
    cli = parser(__doc__, "backbones", seeds=1)
    cli.add_argument(
        "--mobilenet", type=Path, help="torchvision's MobileNetV2 state dict, where it can't be downloaded"
    )
    options = cli.parse_args()
    rows = Rows(options, "backbones", ("torch", "torchvision", "timm", "onnxruntime"))
    for name, images in chosen_sets(options):
        windows = probe_images(images.dataset.train, TrainingOptions().bit_depth)
        assert windows is not None
        for backbone in BACKBONES:
            weights = options.mobilenet if backbone == "mobilenet_v2" else None
            for size in input_sizes(windows.image_hw, windows.aspects):
                row: dict[str, Any] = {"set": name, "backbone": backbone, "size_hw": list(size)}
                if rows.has(**row):
                    continue
                chosen = TrainingOptions(backbone=backbone, weights=weights, size_hw=size)
                try:
                    model = prepare(chosen)[0]
                except WeightsError:
                    rows.add(**row, auroc=None, ms=None, reason="its weights can't be had here")
                    continue
                rows.add(**row, auroc=drawn_auroc(model, windows, size), ms=frame_ms(model))
    print(summary(rows.rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """The table of the best AUROC of each backbone within the default's time, a line for each set and size of it."""
    measured = [row for row in rows if row["auroc"] is not None]
    names = [name for name in BACKBONES if any(row["backbone"] == name for row in measured)]
    lines = ["| set | ms | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for reference in (row for row in measured if row["backbone"] == DEFAULT_BACKBONE):
        cells = []
        for name in names:
            within = [
                row
                for row in measured
                if (row["set"], row["backbone"]) == (reference["set"], name) and row["ms"] <= SLACK * reference["ms"]
            ]
            best = max(within, key=lambda row: row["auroc"], default=None)
            cells.append("-" if best is None else f"{best['auroc']:.3f} ({best['size_hw'][0]}x{best['size_hw'][1]})")
        lines.append(f"| {reference['set']} | {reference['ms']:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
