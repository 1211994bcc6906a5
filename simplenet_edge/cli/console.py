"""What the commands print with: tables and JSON on standard output, progress and warnings on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from simplenet_edge.cli.logs import printable
from simplenet_edge.progress import OnMessage
from simplenet_edge.progress import Progress as OnProgress

__all__ = [
    "ProgressBars",
    "ProgressLines",
    "note",
    "print_json",
    "print_lines",
    "print_table",
    "progress_bars",
    "progress_on_terminal",
    "resumable",
    "warn",
    "warn_left_out",
]

_STOPPED = 130  # what shells say of Ctrl-C
_NAMED = 5  # files that are named one by one


def print_json(values: dict[str, Any]) -> None:
    """One strict JSON object on standard output."""
    sys.stdout.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; all but the first column are set right."""
    table = Table(title=printable(title), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, markup=False).print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Sentences on standard output, each on a line of its own however long."""
    for line in lines:
        Console(highlight=False, markup=False, soft_wrap=True).print(printable(line))


def note(text: str) -> None:
    """A line for the reader on standard error."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(printable(text))


def warn(text: str | None) -> None:
    """A warning on standard error; nothing for None."""
    if text:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
            f"warning: {printable(text)}", style="yellow"
        )


def warn_left_out(reasons: Sequence[str]) -> None:
    """A warning for each of the first files that could not be used, and one that counts the rest."""
    for reason in reasons[:_NAMED]:
        warn(f"left out: {reason}")
    if len(reasons) > _NAMED:
        warn(f"left out: {len(reasons) - _NAMED} more")


class ProgressBars:
    """One bar a stage, made when the stage first reports; nothing is drawn before that."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._loss = ""

    def report(self, stage: str, done: int, total: int) -> None:
        """Move the bar of `stage` to `done` of `total`."""
        if stage not in self._tasks:
            self._progress.start()
            self._tasks[stage] = self._progress.add_task(stage, total=total, loss="")
        self._progress.update(self._tasks[stage], completed=done, total=total, loss=self._loss)
        self._loss = ""

    def loss(self, loss: float) -> None:
        """Show a loss with the next report."""
        self._loss = f"loss {loss:.4g}"

    def stop(self) -> None:
        """Leave the bars as they are; nothing where there are none."""
        if self._tasks:
            self._progress.stop()


class ProgressLines:
    """The same as lines of a log: one for each tenth of a stage but `least_s` apart, or after `most_s`, and its end."""

    def __init__(self, write: OnMessage, least_s: float = 2.0, most_s: float = 10.0) -> None:
        self._write = write
        self._least_s = least_s
        self._most_s = most_s
        self._stage = self._loss = self._unsaid = ""
        self._began = self._said = 0.0
        self._tenth = 0
        self._first = 0  # what a stage that goes on had done before

    def report(self, stage: str, done: int, total: int) -> None:
        """Write a line where one is due."""
        now = time.monotonic()
        if stage != self._stage:
            self.stop()
            self._stage, self._began, self._said, self._tenth, self._first = stage, now, now, 0, done
        passed, tenth = now - self._began, 10 * done // max(total, 1)
        per_step = passed / max(done - self._first, 1)
        left = f", about {per_step * (total - done):.0f} s left" if self._first < done < total else ""
        self._unsaid = f"{stage}: {done}/{total}{self._loss}, {passed:.0f} s{left}"
        self._loss = ""
        quiet_s = now - self._said
        if done == total or quiet_s >= self._most_s or (tenth > self._tenth and quiet_s >= self._least_s):
            self._said, self._tenth = now, tenth
            self.stop()

    def loss(self, loss: float) -> None:
        """Write a loss with the next report."""
        self._loss = f", loss {loss:.4g}"

    def stop(self) -> None:
        """Write how far the stage came, if it hasn't been said."""
        if self._unsaid:
            self._write(self._unsaid)
        self._unsaid = ""


@contextmanager
def progress_bars() -> Iterator[ProgressBars | ProgressLines]:
    """Progress on standard error: bars where that is a terminal, otherwise lines."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    bars: ProgressBars | ProgressLines = ProgressLines(note)
    if sys.stderr.isatty():
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


@contextmanager
def resumable(advice: str) -> Iterator[None]:
    """Leave with `advice` where Ctrl-C stops what takes long and can go on later."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"stopped; {advice}")
        raise typer.Exit(_STOPPED) from None
