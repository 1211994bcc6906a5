"""The figures of one evaluation, and what the rows of `datasets.py` come to: two Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from runs import spread, table

from simplenet_edge.evaluation.results import Evaluation

__all__ = ["accuracy", "summary"]


def accuracy(result: Evaluation) -> dict[str, float | None]:
    """The figures that every table of accuracy has."""
    return {
        "image_auroc": result.metrics.image_auroc,
        "pixel_auroc": result.metrics.pixel_auroc,
        "aupro": result.metrics.aupro,
        "recall": result.verdicts.recall,
        "false_reject_rate": result.verdicts.false_reject_rate,
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The mean over the sets by method, and each set with the spread of its seeds, as two Markdown tables."""
    sets, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("set", "method"))

    def values(name: str, method: str, figure: str) -> list[float]:
        found = (row.get(figure) for row in rows if (row["set"], row["method"]) == (name, method))
        return [value for value in found if value is not None]

    def mean_over_sets(method: str, figure: str) -> str:
        """Of sets that have the figure at all; without one of them there is no mean to compare."""
        means = []
        for name in sets:
            if any(values(name, other, figure) for other in methods):
                if not (found := values(name, method, figure)):
                    return "-"
                means.append(statistics.mean(found))
        return f"{statistics.mean(means):.3f}" if means else "-"

    means = [[method, *(mean_over_sets(method, figure) for figure in ("image_auroc", "aupro"))] for method in methods]
    each = []
    for name in sets:
        for method in methods:
            own = [row for row in rows if (row["set"], row["method"]) == (name, method)]
            if not own:
                continue
            shown = [
                spread(values(name, method, figure))
                for figure in ("image_auroc", "aupro", "pixel_auroc", "recall", "false_reject_rate")
            ]
            reasons = [
                row.get("failure", "cut off by its budget").splitlines()[0] for row in own if not row["finished"]
            ]
            done = reasons[0] if reasons else "yes"
            each.append([name, method, *shown, spread(values(name, method, "seconds"), 0), done])
    head = ["set", "method", "image AUROC", "AUPRO", "pixel AUROC", "recall", "false rejects", "seconds", "finished"]
    return f"{table(['method', 'image AUROC', 'AUPRO'], means)}\n\n{table(head, each)}"
