"""Does the threshold keep its promise? Re-split the scores of good images many times and count the false rejects.

    simplenet-edge train --data magnetic_tile ... -o run
    simplenet-edge evaluate run --data magnetic_tile
    python benchmarks/coverage.py run

The scores are those of one trained model on good images that it was not trained on: the calibration images and the good
test images. A random split of them makes both halves exchangeable, which is all that the guarantee asks for. Theory
says more than "at most alpha": of m new parts the number rejected is beta-binomial (m, n + 1 - k, k) where the
threshold is the k-th smallest of n scores. Both are written down, with the figure, beside what was counted.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from machine import RESULTS, machine
from matplotlib import pyplot as plt
from scipy.stats import betabinom

from simplenet_edge.files import write_json
from simplenet_edge.threshold import conformal_threshold, false_reject_bound

ALPHAS = (0.01, 0.02, 0.05, 0.1)
SPLITS = 200


def good_scores(run: Path) -> tuple[npt.NDArray[np.float64], int]:
    """The scores of all good images that were not trained on, and how many of them are calibration images."""
    calibration = json.loads((run / "calibration.json").read_text(encoding="utf-8"))["scores"]
    images = json.loads((run / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))["images"]
    test = [image["score"] for image in images if image["defect"] is None]
    return np.array([*calibration.values(), *test]), len(calibration)


def resplit(scores: npt.NDArray[np.float64], n: int, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    """The false-reject rate of `SPLITS` random splits into n calibration scores and m others, beside the theory."""
    m, k = len(scores) - n, min(math.ceil((n + 1) * (1 - Fraction(str(alpha)))), n)
    rejected, points = [], []
    for _ in range(SPLITS):
        shuffled = rng.permutation(scores)
        points.append(conformal_threshold(shuffled[:n], alpha))
        rejected.append(int(np.count_nonzero(shuffled[n:] > points[-1].threshold)))
    rates = np.array(rejected) / m
    return {
        "alpha": alpha,
        "guaranteed": points[0].guaranteed,
        "mean_false_reject_rate": float(rates.mean()),
        "standard_error": float(rates.std(ddof=1) / math.sqrt(SPLITS)),
        "expected_false_reject_rate": (n + 1 - k) / (n + 1),
        "bound_90": false_reject_bound(points[0]),
        "largest_false_reject_rate": float(rates.max()),
        "rejected": np.bincount(rejected).tolist(),
        "expected_share": betabinom(m, n + 1 - k, k).pmf(np.arange(max(rejected) + 1)).tolist(),
    }


def draw(rows: list[dict[str, Any]], m: int, path: Path) -> None:
    """One panel an alpha: how often a split rejected so many of the m other good parts, and the theory."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "coverage", "font.size": 9})
    figure, panels = plt.subplots(1, len(rows), figsize=(11, 2.9), layout="constrained")
    for panel, row in zip(panels, rows, strict=True):
        rates = 100 * np.arange(len(row["rejected"])) / m
        panel.bar(rates, np.array(row["rejected"]) / SPLITS, width=80 / m, color="#9dbdf2", label="counted")
        panel.plot(rates, row["expected_share"], ".-", color="#1b1f24", lw=1, ms=4, label="theory")
        panel.axvline(100 * row["alpha"], color="#c4281c", ls="--", lw=1.2, label="alpha")
        panel.axvline(100 * row["mean_false_reject_rate"], color="#2f6fde", lw=1.2, label="mean")
        panel.set_title(f"alpha {row['alpha']:.0%}: mean {row['mean_false_reject_rate']:.2%}", fontsize=10)
        panel.set_xlabel("good parts rejected, %")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"share of {SPLITS} splits")
    panels[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Count, compare, write `coverage.json` and `coverage.svg`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a training run that was evaluated")
    run = parser.parse_args().run
    scores, n = good_scores(run)
    rows = [resplit(scores, n, alpha, np.random.default_rng(0)) for alpha in ALPHAS]
    record = json.loads((run / "training.json").read_text(encoding="utf-8"))
    values = {
        "n_calibration": n,
        "n_others": len(scores) - n,
        "ties": len(scores) - len(np.unique(scores)),
        "splits": SPLITS,
        "data_fingerprint": record["data_fingerprint"],
        "train": record["train"],
        "alphas": rows,
    }
    write_json(RESULTS / "coverage.json", {"machine": machine("numpy", "scipy"), **values})
    draw(rows, len(scores) - n, RESULTS / "coverage.svg")
    for row in rows:
        print(
            f"alpha {row['alpha']:.3f}: mean {row['mean_false_reject_rate']:.4f} +- {row['standard_error']:.4f} over "
            f"{SPLITS} splits, theory {row['expected_false_reject_rate']:.4f}; largest "
            f"{row['largest_false_reject_rate']:.4f}, 90% bound {row['bound_90']:.4f}"
        )


if __name__ == "__main__":
    main()
