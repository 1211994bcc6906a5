"""What the commands print with: tables and JSON on standard output, progress and warnings on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from simplenet_edge.progress import Progress as OnProgress

__all__ = ["ProgressBars", "note", "print_json", "print_table", "progress_bars", "progress_on_terminal", "warn"]


def print_json(values: dict[str, Any]) -> None:
    """One strict JSON object on standard output."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; all but the first column are set right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def note(text: str) -> None:
    """A line for the reader on standard error."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def warn(text: str | None) -> None:
    """A warning on standard error; nothing for None."""
    if text:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"warning: {text}", style="yellow")


class ProgressBars:
    """One bar a stage, made when the stage first reports; nothing is drawn before that."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def report(self, stage: str, done: int, total: int) -> None:
        """Move the bar of `stage` to `done` of `total`."""
        if stage not in self._tasks:
            self._progress.start()
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def stop(self) -> None:
        """Leave the bars as they are; nothing where there are none."""
        if self._tasks:
            self._progress.stop()


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Progress bars on standard error; where that is no terminal, only their final state is printed."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = ProgressBars(Progress(*columns, console=Console(stderr=True)))
    try:
        yield bars
    finally:
        bars.stop()


@contextmanager
def progress_on_terminal() -> Iterator[OnProgress | None]:
    """What moves progress bars where standard error is a terminal; None where it is a log, which wants lines."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bars() as bars:
        yield bars.report
