"""Do a90 and a90/95 say what they should? Of drawn defects that were held out, and over re-draws.

    python benchmarks/visibility.py --runs RUN RUN ... [--per-cell 4]

For each training run a large pool is drawn on its calibration images: every kind, size, contrast and region,
`--per-cell` times. From it:

- **a90/95 over re-draws**: 40 times, as many of the pool as the command draws are fitted; how often does the bound lie
  at or above the a90 of the whole pool? By kind and contrast, and 10 times by region at the middle contrast. Only where
  the pool reaches 90 % within the sizes drawn. A re-draw is part of the pool, which makes the two a little more alike
  than two draws.
- **Held-out sizes**: a re-draw of every second size is fitted; how often is the whole pool's hit rate at the sizes in
  between, by kind and contrast, inside the 95 % interval of POD there? And inside the interval with the chance added
  that the pool's own rates have (binomial)?

And for hits that are drawn from the model itself, where a90 is known: 300 re-draws of 300, with parts that differ.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from simplenet_edge.evaluation.drawn_trials import GRID, Defect, DrawnDefects, Found, sizes_px, trials_of
from simplenet_edge.evaluation.pod import HitMissModel, Trials
from simplenet_edge.evaluation.visibility import VisibilityConfig
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.model.embedder import FastPredictor
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS
from simplenet_edge.training.run import TrainingRun

CONTRASTS, DRAWS = VisibilityConfig().contrasts, VisibilityConfig().draws
SHOWN = CONTRASTS[1]  # regions are told apart at that
REDRAWS, REGION_REDRAWS, SIMULATED, IMAGES, SEED = 40, 10, 300, 100, 1


def pool_of(run: TrainingRun, per_cell: int) -> tuple[dict[str, list[Found]], list[float]]:
    """Every kind, size from 4 pixels, contrast and region drawn `per_cell` times, and the sizes."""
    samples = run.images("calibration")
    images = [read_image(sample.path) for sample in samples[:: math.ceil(len(samples) / IMAGES)]]
    predictor, spec, threshold = FastPredictor(run.model), run.model.input_spec, run.operating_point.threshold

    def judge(pictures: Sequence[Frames]) -> Any:
        return predictor.predict(np.stack([preprocess(picture, spec) for picture in pictures])).score

    good = [image for image in images if judge([image])[0] <= threshold]
    sizes = [size for size in sizes_px(good) if size >= 4]
    cells = itertools.product(SIZED_KINDS, sizes, CONTRASTS, range(GRID**2), range(per_cell))
    plan = [Defect(*cell[:4]) for cell in cells]
    drawn = DrawnDefects(judge, good, threshold, SEED, progress=lambda _, done, total: print(done, total, end="\r"))
    drawn.draw((plan[i] for i in np.random.default_rng(SEED).permutation(len(plan))), len(plan))
    return drawn.found, sizes


def over_redraws(pool: dict[str, list[Found]], largest: float) -> dict[str, Any]:
    """How often the bound of a re-draw lies at or above the pool's a90."""
    rng, rows = np.random.default_rng(SEED), []
    for kind, found in pool.items():
        for region in (None, *range(GRID**2)):
            whole = HitMissModel(trials_of(found), by_region=region is not None)
            contrasts, redraws = (CONTRASTS, REDRAWS) if region is None else ((SHOWN,), REGION_REDRAWS)
            reached = {c: whole.log_a90(math.log(c), region or 0) for c in contrasts}
            reached = {c: a90 for c, a90 in reached.items() if a90 <= math.log(largest)}
            if not reached:
                continue
            above = dict.fromkeys(reached, 0)
            for _ in range(redraws):
                some = [found[i] for i in rng.choice(len(found), DRAWS, replace=False)]
                model = HitMissModel(trials_of(some), by_region=region is not None)
                for c in above:
                    above[c] += model.log_a90_95(math.log(c), region or 0) >= reached[c]
            rows += [
                {"kind": kind, "contrast": c, "region": region, "a90_px": math.exp(reached[c]), "above": n / redraws}
                for c, n in above.items()
            ]
    summary = {
        name: float(np.mean([row["above"] for row in rows if (row["region"] is None) == whole])) if rows else None
        for name, whole in (("whole_image", True), ("by_region", False))
    }
    return {**summary, "rows": rows}


def held_out_sizes(pool: dict[str, list[Found]], sizes: Sequence[float]) -> dict[str, Any]:
    """How often the pool's hit rate at sizes that were not fitted lies inside the interval there."""
    rng, inside, with_chance = np.random.default_rng(SEED), [], []
    for found in pool.values():
        fitted = [one for one in found if one.defect.size_px in sizes[::2]]
        for _ in range(REDRAWS):
            some = [fitted[i] for i in rng.choice(len(fitted), min(DRAWS, len(fitted) // 2), replace=False)]
            model = HitMissModel(trials_of(some))
            for size, contrast in itertools.product(sizes[1:-1:2], CONTRASTS):
                hits = [one.hit for one in found if (one.defect.size_px, one.defect.contrast) == (size, contrast)]
                pod, low, high = model.pod(math.log(size), math.log(contrast))
                inside.append(low <= np.mean(hits) <= high)
                by_chance = 1.96 * math.sqrt(pod * (1 - pod) / len(hits))
                low, high = pod - math.hypot(pod - low, by_chance), pod + math.hypot(high - pod, by_chance)
                with_chance.append(low <= np.mean(hits) <= high)
    return {"inside": float(np.mean(inside)), "with_chance": float(np.mean(with_chance)), "n": len(inside)}


def simulated(spread: float, rng: np.random.Generator) -> dict[str, Any]:
    """The same for hits of a known model, whose images differ by `spread` on the logit."""

    def draw(n: int, images: int) -> Trials:
        log_size = np.log(rng.choice(2 * 2 ** (np.arange(11) / 2), n))
        log_contrast, region = np.log(rng.choice(CONTRASTS, n)), rng.integers(0, GRID**2, n)
        image = rng.integers(0, images, n)
        eta = 2.5 * (log_size - math.log(12)) + 2 * (log_contrast - math.log(0.2)) + np.linspace(-0.8, 0.8, 9)[region]
        eta += rng.normal(0, spread, images)[image]
        return Trials(log_size, log_contrast, region, image, rng.random(n) < 1 / (1 + np.exp(-eta)))

    at = math.log(0.2)
    large = draw(500_000, 50_000)
    whole = HitMissModel(large).log_a90(at)
    corner = HitMissModel(large, by_region=True).log_a90(at, 0)
    above = np.zeros(2)
    ratios = []
    for _ in range(SIMULATED):
        trials = draw(DRAWS, 40)
        bounds = HitMissModel(trials).log_a90_95(at), HitMissModel(trials, by_region=True).log_a90_95(at, 0)
        above += np.array(bounds) >= (whole, corner)
        ratios.append(math.exp(bounds[0] - whole))
    return {
        "spread_of_images": spread,
        "whole_image": above[0] / SIMULATED,
        "by_region": above[1] / SIMULATED,
        "bound_over_a90": float(np.median(ratios)),
    }


def main() -> None:
    """Draw, fit and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--per-cell", type=int, default=4)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    values: dict[str, Any] = {"machine": machine("numpy", "torch"), "draws": DRAWS, "redraws": REDRAWS}
    values["simulated"] = [simulated(spread, rng) for spread in (0.0, 1.0)]
    values["runs"] = []
    write_result("visibility", values)
    for path in options.runs:
        pool, sizes = pool_of(TrainingRun.load(path), options.per_cell)
        row = {"run": path.name, "sizes_px": sizes, "pool": sum(map(len, pool.values()))}
        row |= {"redraws": over_redraws(pool, sizes[-1]), "held_out_sizes": held_out_sizes(pool, sizes)}
        values["runs"].append(row)
        write_result("visibility", values)


if __name__ == "__main__":
    main()
