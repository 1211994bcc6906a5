"""The real data sets that the scripts measure on. Whoever adds one adds a function here, and a name in `SETS`.

tiles         Magnetic Tile Defect, split by part: no tile is in training and in the test
tiles_usual   the same images in the split that is usually reported, where every good test tile is in training too
commutators   KolektorSDD, split by item
solar         ELPV's monocrystalline solar cells, from pip: elpv-dataset
"""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.data.samples import Dataset, Sample

__all__ = ["DEFAULT_SETS", "SETS", "ImageSet", "limited"]


@dataclass(frozen=True)
class ImageSet:
    """A dataset, and what is known of its parts."""

    dataset: Dataset
    parts: dict[str, str] = field(default_factory=dict)  # the part that a good image shows, by the sample's name
    group: str | None = None  # where `train` finds the parts, FILE.csv:COLUMN; None: it looks for them itself


def tiles(shared: Path, work: Path) -> ImageSet:
    """Magnetic tiles, split by part."""
    root, table = shared / "data" / "magnetic_tile", shared / "data" / "magnetic_tile_by_part.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
    good = {
        side: [Sample(root / row["image"], name=row["image"]) for row in rows if row["split"] == side]
        for side in ("train", "test")
    }
    test = [*good["test"], *(sample for sample in load_dataset(root).test if sample.defect is not None)]
    dataset = Dataset("tiles", tuple(good["train"]), tuple(test), "split by part", (root,))
    return ImageSet(dataset, {row["image"]: row["part"] for row in rows}, f"{table}:part")


def tiles_usual(shared: Path, work: Path) -> ImageSet:
    """Magnetic tiles, the usual split."""
    return ImageSet(load_dataset(shared / "data" / "magnetic_tile"))


def commutators(shared: Path, work: Path) -> ImageSet:
    """Commutators with thin cracks."""
    return ImageSet(load_dataset(shared / "data" / "commutator"))


def solar(shared: Path, work: Path) -> ImageSet:
    """Solar cells: without a defect to train, every third of those to the test; without doubt defective to the test.

    There are no masks. The cells are written into `work` once, in MVTec AD's layout.
    """
    root = work / "solar_cells"
    if not root.is_dir():
        from elpv_dataset.utils import load_dataset as elpv

        images, probabilities, types = elpv()
        good, defective = (np.flatnonzero((types == "mono") & (probabilities == share)) for share in (0, 1))
        held_out = np.arange(len(good)) % 3 == 2
        unfinished = work / ".solar_cells.tmp"
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder, chosen in (
            ("train/good", good[~held_out]),
            ("test/good", good[held_out]),
            ("test/defective", defective),
        ):
            (unfinished / folder).mkdir(parents=True)
            for i in chosen:
                if not cv2.imwrite(str(unfinished / folder / f"cell{i:04d}.png"), images[i]):
                    raise OSError(f"{unfinished}: can't write the cells")
        os.replace(unfinished, root)
    return ImageSet(load_dataset(root))


SETS: dict[str, Callable[[Path, Path], ImageSet]] = {
    "tiles": tiles,
    "tiles_usual": tiles_usual,
    "commutators": commutators,
    "solar": solar,
}
"""From the folder with the data and a folder to work in, which exists, to the set."""

DEFAULT_SETS = ("tiles", "commutators", "solar")


def limited(images: ImageSet, most: int | None) -> ImageSet:
    """At most so many good training, good test and defective images, spread over each; for a quick try."""
    if most is None:
        return images
    train, test = images.dataset.train, images.dataset.test
    good = [sample for sample in test if sample.defect is None]
    defective = [sample for sample in test if sample.defect is not None]
    dataset = dataclasses.replace(
        images.dataset, train=_spread(train, most), test=_spread(good, most) + _spread(defective, most)
    )
    return dataclasses.replace(images, dataset=dataset)


def _spread(samples: Sequence[Sample], most: int) -> tuple[Sample, ...]:
    chosen = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int)
    return tuple(samples[i] for i in chosen)
