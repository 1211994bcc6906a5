"""What a sweep found: figures by category and seed, their mean and spread, as JSON values and as one Markdown table.

Figures are within 0..1, None where the images don't define them. A spread is the sample standard deviation over the
seeds, None for fewer than two.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = ["FIGURES", "PAPER_LABEL", "CategoryResult", "MeanStd", "Protocol", "SeedResult", "SweepResult", "Table"]

Protocol = Literal["honest", "paper"]
Figures = dict[str, float | None]

FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "false_reject_rate": "false rejects",
    "recall": "recall",
}
"""The figures of a run and the columns they stand under."""
_PAPER_FIGURES = ("image_auroc", "pixel_auroc", "aupro")

PAPER_LABEL = "best meta-epoch chosen on the test images (the paper's protocol)"
"""What every table of best-on-test figures is called: they are no estimate of what a line would see."""
_HONEST_LABEL = "last model, no test image used for any choice"


class MeanStd(NamedTuple):
    """A figure over the seeds."""

    mean: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.std is None else f"{self.mean:.4f} ± {self.std:.4f}"


class Table(NamedTuple):
    """Text cells, ready to print: one row a category, the last one their mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SeedResult:
    """One run: the figures of its last model and, with the paper's protocol, of the meta-epoch best on the test."""

    seed: int
    figures: Figures
    seconds: dict[str, float]
    best_on_test: Figures | None = None
    best_meta_epoch: int | None = None


@dataclass(frozen=True)
class CategoryResult:
    """All seeds of one dataset."""

    name: str
    seeds: tuple[SeedResult, ...]

    def over_seeds(self, figure: str, best_on_test: bool = False) -> MeanStd | None:
        """Mean and spread of a figure; None where a seed doesn't have it."""
        chosen = [seed.best_on_test or {} if best_on_test else seed.figures for seed in self.seeds]
        values = [value for figures in chosen if (value := figures.get(figure)) is not None]
        if len(values) < len(self.seeds):
            return None
        return MeanStd(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class SweepResult:
    """All categories, each with the same seeds."""

    protocol: Protocol
    seeds: int
    categories: tuple[CategoryResult, ...]

    def tables(self) -> tuple[Table, ...]:
        """The table of the last models, after the table of best-on-test figures where that protocol was asked for."""
        honest = self._table(_HONEST_LABEL, tuple(FIGURES), best_on_test=False)
        if self.protocol == "honest":
            return (honest,)
        return self._table(PAPER_LABEL, _PAPER_FIGURES, best_on_test=True), honest

    def markdown(self) -> str:
        """The tables as Markdown."""
        parts = []
        for title, columns, rows in self.tables():
            lines = [columns, ("---", *["---:"] * (len(columns) - 1)), *rows]
            parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines))
        return "\n\n".join(parts) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values; what was chosen on the test images is under `best_on_test` and nowhere else."""
        values: dict[str, Any] = {
            "protocol": self.protocol,
            "seeds": self.seeds,
            "figures": _HONEST_LABEL,
            "categories": [self._category_values(category) for category in self.categories],
        }
        if self.protocol == "paper":
            values["best_on_test"] = PAPER_LABEL
        return values

    def _table(self, what: str, figures: Sequence[str], best_on_test: bool) -> Table:
        rows = []
        for category in self.categories:
            cells = [category.over_seeds(figure, best_on_test) for figure in figures]
            rows.append((category.name, *("-" if cell is None else str(cell) for cell in cells)))
        if len(self.categories) > 1:
            rows.append(("mean", *(self._mean(figure, best_on_test) for figure in figures)))
        counted = "1 seed" if self.seeds == 1 else f"mean ± standard deviation of {self.seeds} seeds"
        return Table(f"{counted}: {what}", ("category", *(FIGURES[figure] for figure in figures)), tuple(rows))

    def _mean(self, figure: str, best_on_test: bool) -> str:
        means = [category.over_seeds(figure, best_on_test) for category in self.categories]
        known = [mean.mean for mean in means if mean is not None]
        return f"{statistics.fmean(known):.4f}" if len(known) == len(means) else "-"

    def _category_values(self, category: CategoryResult) -> dict[str, Any]:
        kinds: dict[str, tuple[str, ...]] = {"figures": tuple(FIGURES)}
        if self.protocol == "paper":
            kinds["best_on_test"] = _PAPER_FIGURES
        values: dict[str, Any] = {"name": category.name}
        for kind, figures in kinds.items():
            over = {figure: category.over_seeds(figure, kind == "best_on_test") for figure in figures}
            values[kind] = {figure: None if value is None else value._asdict() for figure, value in over.items()}
        values["runs"] = [
            {
                "seed": seed.seed,
                "figures": seed.figures,
                **(
                    {"best_on_test": seed.best_on_test, "best_meta_epoch": seed.best_meta_epoch}
                    if self.protocol == "paper"
                    else {}
                ),
                "seconds": seed.seconds,
            }
            for seed in category.seeds
        ]
        return values


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
