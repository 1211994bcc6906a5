"""Does the threshold keep its promise on parts that nobody has seen? Magnetic tiles, six pictures of each.

    python benchmarks/parts.py --shared FOLDER --work FOLDER

`--seeds` times the parts are drawn into some that are trained on and the rest, whose pictures are scored once. False
rejects are counted in five ways. First with the model that was told the parts:

    part            the rest's parts are split at random, `SPLITS` times: some calibrate, by part, the others are judged
    image           the same with pictures in the place of parts: pictures of a judged part have calibrated

Then as on a line, each model with the calibration images of its own training, judged on all of the rest's parts:

    trained, none   pictures were split without regard to parts
    trained, auto   the product looked for the parts itself
    trained, told   it was told them; so few parts are left to calibrate that only some alphas are guaranteed

A row for each draw, way and alpha goes into `results/parts.json`; rows that are there are not measured again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from runs import Rows, chosen_sets, parser, table, trained, training_options
from sets import ImageSet

from simplenet_edge.data.samples import Sample
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.threshold import conformal_threshold, images_needed
from simplenet_edge.training.calibration import calibration_scores
from simplenet_edge.training.options import TrainingOptions

ALPHAS = (0.01, 0.05, 0.1)
SPLITS = 50  # of the rest, for each draw
TRAINED_SHARE = 0.3  # of the parts: the guarantee for 1 % takes 99 of the others
RESPLIT = ("part", "image")
TRAINED = ("none", "auto", "told")
WAYS = (*RESPLIT, *(f"trained, {group}" for group in TRAINED))

Scores = npt.NDArray[np.float64]
Parts = npt.NDArray[np.str_]


def drawn_parts(parts: Sequence[str], share: float, seed: int) -> set[str]:
    """A random share of the different parts."""
    different = sorted(set(parts))
    order = np.random.default_rng(seed).permutation(len(different))
    return {different[i] for i in order[: round(share * len(different))]}


def calibration_units(n: int, alpha: float) -> int:
    """How many of n parts or pictures calibrate: half, or what alpha takes as long as a tenth is left to judge."""
    return min(max(n // 2, images_needed(alpha)), math.floor(0.9 * n))


def judged(scores: Scores, parts: Parts, point: OperatingPoint) -> tuple[float, float]:
    """How often a picture of a part is rejected, all parts counting the same, and how many parts have one that is."""
    rejected = scores > point.threshold
    shares = [float(rejected[parts == part].mean()) for part in np.unique(parts)]
    return float(np.mean(shares)), float(np.mean(np.array(shares) > 0))


def resplit(
    scores: Scores, parts: Parts, alpha: float, by_part: bool, splits: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Random splits of scores `(n,)` of pictures of `parts` `(n,)` into some that calibrate and others that are judged.

    With `by_part` parts are split and calibrate, without it pictures.
    """
    units = parts if by_part else np.arange(len(scores)).astype(str)
    different = np.unique(units)
    n_units = calibration_units(len(different), alpha)
    rates, part_rates, points = [], [], []
    for _ in range(splits):
        calibrates = np.isin(units, rng.permutation(different)[:n_units])
        point = conformal_threshold(scores[calibrates], alpha, list(parts[calibrates]) if by_part else None)
        rate, part_rate = judged(scores[~calibrates], parts[~calibrates], point)
        rates.append(rate)
        part_rates.append(part_rate)
        points.append(point)
    return {**counted(rates, part_rates), "n_calibration": n_units, "guaranteed": points[0].guaranteed}


def counted(rates: Sequence[float], part_rates: Sequence[float]) -> dict[str, Any]:
    """Mean and variance over the splits, from which those of several draws are put together."""
    return {
        "splits": len(rates),
        "false_reject_rate": float(np.mean(rates)),
        "variance": float(np.var(rates)),
        "largest": float(np.max(rates)),
        "parts_rejected": float(np.mean(part_rates)),
    }


def pooled(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The mean over all splits of the rows and its standard error, as if the splits were independent."""
    n = np.array([row["splits"] for row in rows])
    means, variances = (np.array([row[key] for row in rows]) for key in ("false_reject_rate", "variance"))
    mean = float(np.average(means, weights=n))
    variance = float(np.sum(n * (variances + (means - mean) ** 2))) / max(int(n.sum()) - 1, 1)
    return mean, math.sqrt(variance / n.sum())


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each alpha and way, as a Markdown table."""
    lines = []
    for alpha in ALPHAS:
        for way in WAYS:
            found = [row for row in rows if (row["alpha"], row["way"]) == (alpha, way)]
            if not found:
                continue
            mean, error = pooled(found)
            by_draw = [row["false_reject_rate"] for row in found]
            whole = f"{np.mean([row['parts_rejected'] for row in found]):.2%}"
            n = " to ".join(dict.fromkeys(str(f([row["n_calibration"] for row in found])) for f in (min, max)))
            guaranteed = "yes" if all(row["guaranteed"] for row in found) else "no"
            ends = f"{min(by_draw):.2%} to {max(by_draw):.2%}"
            lines.append([f"{alpha:.0%}", way, f"{mean:.2%} ± {error:.2%}", ends, whole, n, guaranteed])
    head = ["alpha", "calibration", "false rejects", "by draw", "parts with one", "calibrated on", "guaranteed"]
    return table(head, lines)


class Scored(NamedTuple):
    """Raw scores of the rest's pictures `(n,)` and their parts `(n,)`; those of the images that calibrated the model,
    and their parts as it knows them."""

    rest: Scores
    parts: Parts
    calibration: Scores
    calibration_parts: list[str]


def scored(
    training: Sequence[Sample],
    rest: Sequence[Sample],
    images: ImageSet,
    folder: Path,
    options: TrainingOptions,
    seed: int,
) -> Scored:
    """Train on some parts' pictures and score the rest's."""
    run = trained(training, folder, options, seed)
    scores = calibration_scores(run.model, rest, run.model.input_spec).scores
    parts = np.array([images.parts[name] for name in scores])
    calibration, known = run.calibration_scores, run.record.parts
    return Scored(
        np.array(list(scores.values())),
        parts,
        np.array(list(calibration.values())),
        [name if known is None else known.calibration.get(name, name) for name in calibration],
    )


def measure(rows: Rows, name: str, images: ImageSet, seed: int, pairs: Sequence[str]) -> None:
    """Train on one draw of the parts, in the ways of `TRAINED`, and add its rows."""
    good = [*images.dataset.train, *(sample for sample in images.dataset.test if sample.defect is None)]
    chosen = drawn_parts([images.parts[sample.name] for sample in good], TRAINED_SHARE, seed)
    training = [sample for sample in good if images.parts[sample.name] in chosen]
    rest = [sample for sample in good if images.parts[sample.name] not in chosen]
    found = {
        group: scored(
            training,
            rest,
            images,
            rows.folder / f"{name}-{seed}-{group}",
            training_options(pairs, group=images.group if group == "told" else group),
            seed,
        )
        for group in TRAINED
    }
    for alpha, way in itertools.product(ALPHAS, WAYS):
        key = {"set": name, "seed": seed, "way": way, "alpha": alpha}
        if rows.has(**key):
            continue
        if way in RESPLIT:
            told, rng = found["told"], np.random.default_rng(seed)
            row = resplit(told.rest, told.parts, alpha, way == "part", SPLITS, rng)
        else:
            own = found[way.removeprefix("trained, ")]
            point = conformal_threshold(own.calibration, alpha, own.calibration_parts)
            rate, part_rate = judged(own.rest, own.parts, point)
            n_units = len(set(own.calibration_parts))
            row = {**counted([rate], [part_rate]), "n_calibration": n_units, "guaranteed": point.guaranteed}
        rows.add(**key, trained_parts=len(chosen), rest_parts=len(set(found["told"].parts)), **row)


def main() -> None:
    """Draw, train, count and write."""
    options = parser(__doc__, "parts", seeds=4, sets=["tiles"]).parse_args()
    rows = Rows(options, "parts", ("torch", "torchvision", "numpy"), splits=SPLITS, trained_share=TRAINED_SHARE)
    for name, images in chosen_sets(options):
        if not images.parts:
            raise SystemExit(f"{name}: its parts are not known")
        for seed in range(options.seeds):
            if sum(1 for _ in rows.where(set=name, seed=seed)) < len(ALPHAS) * len(WAYS):
                measure(rows, name, images, seed, options.options)
    print(summary(rows.rows))


if __name__ == "__main__":
    main()
