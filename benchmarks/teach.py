"""What a lesson at the line is worth: five rejected parts are marked good, and what of their kind comes after them?

    python benchmarks/teach.py --shared FOLDER --work FOLDER

Kinds of rejected parts that are good: `found`, the good test images that the model rejects, and good test images with
something drawn on them that training never showed: a `label`, an `ink` stamp, a `chalk` ring, specks of `dust`. For
each: of those that are rejected five are drawn and taught, with no look at any other. Then

    repeats      share of up to 200 others of their kind that is rejected, before and after
    recall       share of the defective test images that is rejected, before and after
    seconds      of the lesson, pictures read and bundle written
    coverage     200 times the good test images, the taught ones aside, are split by part into calibration and test: the
                 share rejected by the taught model at the threshold that the model before gives
    refused      a lesson that marks five defective parts as good, where the others of their kind are known as rejected

A row for each set, seed and kind goes into `results/teach.json`; rows that are there are not measured again.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from runs import Rows, chosen_sets, parser, spread, table, trained, training_options
from sets import ImageSet

from simplenet_edge.bundle import Bundle
from simplenet_edge.data.samples import Sample
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.errors import LessonRefused
from simplenet_edge.export.exporter import export_bundle
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.teach.teach import MarkedPictures, Picture, teach
from simplenet_edge.spec import Frames
from simplenet_edge.threshold import conformal_threshold

TAUGHT, OTHERS, SPLITS = 5, 200, 200
ALPHAS = (0.01, 0.05, 0.1)

Scores = npt.NDArray[np.float64]


def label(rng: np.random.Generator, image: Frames, x: int, y: int, unit: float) -> None:
    """A white label with three lines of print, 40 units wide: a unit is 1/256 of the shorter side."""
    cv2.rectangle(image, (x, y), (x + round(40 * unit), y + round(26 * unit)), (235, 235, 235), cv2.FILLED)
    for i in range(3):
        down = y + round((6 + 7 * i) * unit)
        ends = (x + round(5 * unit), down), (x + round(34 * unit), down)
        cv2.line(image, *ends, (20, 20, 20), max(1, round(2 * unit)))


def ink(rng: np.random.Generator, image: Frames, x: int, y: int, unit: float) -> None:
    """Two characters, about 40 units wide."""
    cv2.putText(
        image, "A7", (x, y), cv2.FONT_HERSHEY_SIMPLEX, unit, (30, 30, 160), max(1, round(2 * unit)), cv2.LINE_AA
    )


def chalk(rng: np.random.Generator, image: Frames, x: int, y: int, unit: float) -> None:
    """A ring, 36 units wide."""
    cv2.circle(image, (x, y), round(18 * unit), (220, 220, 220), max(1, round(2 * unit)), cv2.LINE_AA)


def dust(rng: np.random.Generator, image: Frames, x: int, y: int, unit: float) -> None:
    """Six specks within 60 units."""
    for dx, dy in rng.uniform(-30, 30, (6, 2)) * unit:
        cv2.circle(image, (x + int(dx), y + int(dy)), max(1, round(2 * unit)), (210, 210, 210), cv2.FILLED, cv2.LINE_AA)


KINDS: dict[str, Callable[[np.random.Generator, Frames, int, int, float], None] | None] = {
    "found": None,
    "label": label,
    "ink": ink,
    "chalk": chalk,
    "dust": dust,
}


def pictures(samples: Sequence[Sample], kind: str, seed: int) -> list[Picture]:
    """The images, each with something of the kind drawn at a random place."""
    rng, draw, found = np.random.default_rng(seed), KINDS[kind], []
    for sample in samples:
        image = read_image(sample.path)
        height, width = image.shape[:2]
        if draw is not None:
            image = image.copy()
            x, y = int(rng.uniform(0.2, 0.6) * width), int(rng.uniform(0.2, 0.7) * height)
            draw(rng, image, x, y, min(height, width) / 256)
        found.append(Picture(sample.name, image))
    return found


def scores(bundle: Bundle, shown: Sequence[Picture]) -> Scores:
    """The raw score of each picture."""
    with open_engine(bundle, "onnxruntime") as engine:
        detector = Detector(engine)
        return np.array([detector.inspect(image).score for _, image in shown])


def coverage(before: Scores, after: Scores, parts: Sequence[str], alpha: float, seed: int) -> float:
    """Mean share of pictures rejected after the lesson at thresholds that other parts gave before it."""
    rng, of = np.random.default_rng(seed), np.array(parts)
    different, rates = np.unique(of), []
    for _ in range(SPLITS):
        side = np.isin(of, rng.permutation(different)[: len(different) // 2])
        threshold = conformal_threshold(before[side], alpha, list(of[side])).threshold
        rates.append(float((after[~side] > threshold).mean()))
    return float(np.mean(rates))


def measured(bundle: Bundle, images: ImageSet, kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """The row of a kind; only `rejected` where fewer than five and one are rejected."""
    good = [sample for sample in images.dataset.test if sample.defect is None]
    bad = pictures([sample for sample in images.dataset.test if sample.defect is not None], "found", seed)
    threshold = bundle.record().operating_point.threshold
    shown = pictures(good, kind, seed)
    before = scores(bundle, shown)
    rejected = np.flatnonzero(before > threshold)
    about = {"shown": len(shown), "rejected": len(rejected)}
    if len(rejected) <= TAUGHT:
        return about
    rng = np.random.default_rng(seed)
    marked = rng.permutation(rejected)[:TAUGHT]
    others = rng.permutation(np.setdiff1d(np.arange(len(shown)), marked))[:OTHERS]
    started = time.perf_counter()
    taught, lesson = teach(bundle, MarkedPictures([shown[i] for i in marked]), folder / "taught", by="benchmark")
    seconds = time.perf_counter() - started
    after, plain = scores(taught, shown), pictures(good, "found", seed)
    kept = [i for i in range(len(good)) if kind != "found" or i not in marked]
    parts = [images.parts.get(good[i].name, good[i].name) for i in kept]
    plain_before, plain_after = scores(bundle, plain)[kept], scores(taught, plain)[kept]
    bad_before, bad_after = scores(bundle, bad), scores(taught, bad)
    return {
        **about,
        "patches": lesson.patches["fp32"],
        "seconds": seconds,
        "others": len(others),
        "others_rejected": [float((values[others] > threshold).mean()) for values in (before, after)],
        "recall": [float((values > threshold).mean()) for values in (bad_before, bad_after)],
        "false_rejects": [float((values > threshold).mean()) for values in (plain_before, plain_after)],
        "largest_rise": float(max((after - before).max(), (bad_after - bad_before).max())),
        "coverage": {
            str(alpha): [coverage(plain_before, one, parts, alpha, seed) for one in (plain_before, plain_after)]
            for alpha in ALPHAS
            if len(set(parts)) // 2 >= math.ceil(1 / alpha) - 1
        },
    }


def refusal(bundle: Bundle, images: ImageSet, seed: int, folder: Path) -> dict[str, Any]:
    """Five defective parts marked good, beside others of their kind that are kept."""
    classes = sorted({sample.defect for sample in images.dataset.test if sample.defect is not None})
    threshold, found = bundle.record().operating_point.threshold, []
    for defect in classes:
        bad = pictures([sample for sample in images.dataset.test if sample.defect == defect], "found", seed)
        caught = [bad[i] for i in np.flatnonzero(scores(bundle, bad) > threshold)]
        if len(caught) < 2 * TAUGHT:
            continue
        try:
            teach(
                bundle, MarkedPictures(caught[:TAUGHT], kept=caught[TAUGHT:]), folder / f"bad-{defect}", by="benchmark"
            )
            found.append({"defect": defect, "kept": len(caught) - TAUGHT, "passing": 0})
        except LessonRefused as error:
            found.append({"defect": defect, "kept": len(caught) - TAUGHT, "passing": len(error.pictures)})
    return {"lessons": len(found), "refused": sum(one["passing"] > 0 for one in found), "by_defect": found}


def main() -> None:
    """Train where no model is there, teach, and write row by row."""
    options = parser(__doc__, "teach", seeds=1).parse_args()
    rows = Rows(options, "teach", ("torch", "numpy", "onnxruntime"), kinds=list(KINDS), taught=TAUGHT)
    for name, images in chosen_sets(options):
        for seed in range(options.seeds):
            wanted = [kind for kind in (*KINDS, "refused") if not rows.has(set=name, seed=seed, kind=kind)]
            if not wanted:
                continue
            folder = rows.folder / f"{name}-{seed}"
            run = trained(images.dataset.train, folder, training_options(options.options, images), seed)
            bundle = export_bundle(run, rows.folder / f"{name}-{seed}.bundle", overwrite=True)
            for kind in wanted:
                with tempfile.TemporaryDirectory() as work:
                    place = Path(work)
                    if kind == "refused":
                        found = refusal(bundle, images, seed, place)
                    else:
                        found = measured(bundle, images, kind, seed, place)
                rows.add(set=name, seed=seed, kind=kind, **found)
    print(summary(rows.rows))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each set and kind, mean over the seeds, as a Markdown table."""
    lines = []
    for name in dict.fromkeys(row["set"] for row in rows):
        for kind in KINDS:
            same = [row for row in rows if (row["set"], row["kind"]) == (name, kind) and "patches" in row]
            if same:
                pairs = ("others_rejected", "recall", "false_rejects")
                changes = [
                    f"{spread([r[key][0] for r in same])} to {spread([r[key][1] for r in same])}" for key in pairs
                ]
                seconds = spread([row["seconds"] for row in same], 1)
                lines.append((name, kind, len(same), *changes, spread([row["patches"] for row in same], 0), seconds))
    return table(("set", "kind", "seeds", "others rejected", "recall", "false rejects", "patches", "seconds"), lines)


if __name__ == "__main__":
    main()
