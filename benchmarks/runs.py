"""What the scripts over several data sets share: their options, rows that are kept one by one, and trained models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import RESULTS, machine
from sets import DEFAULT_SETS, SETS, ImageSet, limited

import simplenet_edge
from simplenet_edge.data.samples import Sample
from simplenet_edge.files import write_json
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.workflows.train import train

__all__ = ["Rows", "chosen_sets", "parser", "spread", "table", "trained", "training_options", "training_seconds"]

Row = dict[str, Any]


def parser(doc: str | None, name: str, seeds: int, sets: Sequence[str] = DEFAULT_SETS) -> argparse.ArgumentParser:
    """The options that all of them have; a result is `results/NAME.json` unless told otherwise."""
    found = os.environ.get("SIMPLENET_EDGE_SHARED")
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shared", type=Path, default=found, required=found is None, help="folder with data/")
    options.add_argument("--work", type=Path, required=True, help="folder for trained models and written images, kept")
    options.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    options.add_argument("--fresh", action="store_true", help="start over: forget the rows and models of this script")
    options.add_argument("--sets", nargs="*", choices=list(SETS), default=list(sets))
    options.add_argument("--seeds", type=int, default=seeds)
    options.add_argument("--images", type=int, help="at most so many images of each kind, for a quick try")
    options.add_argument(
        "--options", nargs="*", default=[], metavar="KEY=VALUE", help="of the training, e.g. backbone=resnet18"
    )
    return options


class Rows:
    """The rows of a result. Each is written as soon as it is there, and one that is there is not measured again."""

    def __init__(self, options: argparse.Namespace, folder: str, packages: Sequence[str], **protocol: Any) -> None:
        """`folder` is the script's own in `--work`. Exits where the file was made elsewhere or in another way."""
        self.rows: list[Row] = []
        self.folder: Path = options.work / folder
        self._path: Path = options.output
        versions = {"simplenet-edge": simplenet_edge.__version__}
        measured_on = machine(*packages)
        measured_on["versions"] |= versions
        self._about: dict[str, Any] = {
            "machine": measured_on,
            "threads": torch.get_num_threads(),
            "protocol": {"images": options.images, "options": options.options, **protocol},
        }
        if options.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self._path.is_file():
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            self.rows = kept.pop("rows")
            if _undated(kept) != _undated(json.loads(json.dumps(self._about))):
                raise SystemExit(
                    f"{self._path}: measured on another machine, with other versions or other options; pass --fresh to "
                    "start over, or name another --output"
                )
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, **key: Any) -> bool:
        """Whether there is a row with these values."""
        return any(_matches(row, key) for row in self.rows)

    def where(self, **key: Any) -> Iterator[Row]:
        """The rows with these values."""
        return (row for row in self.rows if _matches(row, key))

    def add(self, **row: Any) -> None:
        """Keep a row, and print it."""
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(self._path, {**self._about, "rows": self.rows})


def _matches(row: Row, key: Mapping[str, Any]) -> bool:
    return all(row.get(name) == value for name, value in key.items())


def _undated(about: dict[str, Any]) -> dict[str, Any]:
    return {**about, "machine": {key: value for key, value in about["machine"].items() if key != "date"}}


def chosen_sets(options: argparse.Namespace) -> Iterator[tuple[str, ImageSet]]:
    """The sets that were asked for, one at a time."""
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        yield name, limited(SETS[name](options.shared, options.work), options.images)


def training_options(pairs: Sequence[str], images: ImageSet | None = None, **fixed: Any) -> TrainingOptions:
    """The product's defaults but for `KEY=VALUE` pairs, values as JSON or plain text, and what is `fixed`.

    With `images` whose parts are known, they are what is split and guaranteed.
    """
    values: dict[str, Any] = {}
    if images is not None and images.group is not None:
        values["group"] = images.group
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        values[key] = Path(text) if key == "weights" else tuple(value) if isinstance(value, list) else value
    known = {option.name for option in dataclasses.fields(TrainingOptions)}
    if unknown := sorted(set(values) - known):
        raise SystemExit(f"no such training options: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return TrainingOptions(**{**values, **fixed})


def trained(good: Sequence[Sample], folder: Path, options: TrainingOptions, seed: int) -> TrainingRun:
    """The run in `folder`, trained unless it is finished. An unfinished one starts anew: its times are of one go."""
    if not ((folder / "calibration.json").is_file() and _seconds_file(folder).is_file()):
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        train(good, folder, options, seed=seed)
        write_json(_seconds_file(folder), {"seconds": time.perf_counter() - started})
    return train(good, folder, options, seed=seed, resume=True)


def training_seconds(run: TrainingRun) -> float:
    """Wall time of a training that `trained` gave, with all that came before it, such as the choice of its size."""
    seconds: float = json.loads(_seconds_file(run.folder).read_text(encoding="utf-8"))["seconds"]
    return seconds


def _seconds_file(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.seconds.json"


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean and standard deviation of the values that are there, as text."""
    found = [value for value in values if value is not None]
    if not found:
        return "-"
    mean = f"{statistics.mean(found):.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ± {statistics.stdev(found):.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
