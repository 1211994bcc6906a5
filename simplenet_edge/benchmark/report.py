"""A benchmark for people: its table, its warnings, as Markdown, and what changed between two of them.

Works on the plain JSON values of `BenchmarkResult.to_dict`, so that a result of last year's machine reads like today's.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplenet_edge.benchmark.results import SCHEMA
from simplenet_edge.benchmark.statistics import Interval, ratio_of_medians
from simplenet_edge.errors import DataError

__all__ = ["Change", "Table", "compare", "differences", "label", "load", "markdown", "tables", "warnings"]

Values = dict[str, Any]

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, columns, rows."""

_TIMES = ("p90", "p50", "p95", "p99", "max")
_MEANINGS = {
    "single-stream": "one frame per call, the engine alone",
    "offline": "a batch a call, the engine alone",
    "stream": "camera images to verdicts",
}
_WIDE_CV = 0.1  # spread of the calls, as a share of their mean
_FEW_CALLS = 100  # below, the 99th percentile is no more than the slowest call
_BUSY = 0.05  # share of the processors that others, or the host, may take
_OF_THE_MOMENT = {"date", "load_average", "frequency_mhz", "temperature_c", "versions"}
_SLOWER = 0.05  # by which the last calls may be slower than the first


def load(path: Path) -> Values:
    """The result that was saved as JSON. Raises DataError where the file is none or of another version."""
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); save one with `benchmark --json`") from error
    if not isinstance(values, dict) or "results" not in values or values.get("schema") != SCHEMA:
        raise DataError(f"{path} is no benchmark result of schema {SCHEMA}; save one with `benchmark --json`")
    return values


def tables(result: Values) -> list[Table]:
    """Title, columns and rows: one table a scenario, the stages of `stream`, and what really ran."""
    found: list[Table] = []
    for scenario, means in _MEANINGS.items():
        rows = [row for row in result["results"] if row["scenario"] == scenario]
        if rows:
            measured = any(row["mj_per_frame"] is not None for row in rows)
            columns = ("", *(f"{name} ms" for name in _TIMES), "mean ms", "FPS", *(("mJ/frame",) if measured else ()))
            found.append((f"{scenario}: {means}", columns, [_figures(row)[: len(columns)] for row in rows]))
    if split := [row for row in result["results"] if row["stages_ms"]]:
        stages = tuple(split[0]["stages_ms"])
        body = [(_short(row), *(f"{row['stages_ms'][name]:.2f}" for name in stages)) for row in split]
        found.append(("stages of stream, mean ms a call", ("", *stages), body))
    columns = ("", "open ms", "first ms", "memory MiB", "score drift", "flips")
    found.append(("engines", columns, [_start(one) for one in result["engines"]]))
    return found


def _figures(row: Values) -> tuple[str, ...]:
    latency, energy = row["latency"], row["mj_per_frame"]
    half = latency["mean_ci_ms"][1] - latency["mean_ms"]
    return (
        _short(row),
        *(f"{latency[f'{name}_ms']:.2f}" for name in _TIMES),
        f"{latency['mean_ms']:.2f} ± {half:.2f}",
        f"{row['frames_per_s']:.1f}",
        "-" if energy is None else f"{energy:.0f}",
    )


def _start(one: Values) -> tuple[str, ...]:
    return (
        f"{one['engine']} {one['precision']} ({one['provider']})",
        f"{one['open_ms']:.0f}",
        f"{one['first_ms']:.1f}",
        "-" if one["rss_mib"] is None else f"{one['rss_mib']:.0f}",
        f"{one['score_drift']:.1e}",
        str(one["flips"]),
    )


def warnings(result: Values) -> list[str]:
    """Why the figures may not be what they seem; empty where nothing was noticed."""
    activity, governor = result["activity"] or {}, result["environment"]["governor"]
    told = [f"not measured: {failure}" for failure in result["failures"]]
    told += [
        f"{one['engine']} {one['precision']} does not give the bundle's numbers, so its speed is worth nothing; run "
        "`simplenet-edge verify`"
        for one in result["engines"]
        if not one["agrees"]
    ]
    told += _doubts(result["results"])
    told += [
        f"{who} took {activity[key]:.0%} of the processors meanwhile; the machine was not idle"
        for key, who in (("others", "other programs"), ("stolen", "other virtual machines"))
        if activity.get(key, 0.0) > _BUSY
    ]
    if governor not in (None, "performance"):
        told.append(f"the clock's governor is {governor!r}, so the clock speed depends on the load before")
    return told


def _doubts(rows: list[Values]) -> list[str]:
    """One line a kind of doubt, with the measurements that it is about."""
    wide = [f"{label(row)} ({row['latency']['cv']:.0%})" for row in rows if row["latency"]["cv"] > _WIDE_CV]
    few = [f"{label(row)} ({row['latency']['calls']})" for row in rows if row["latency"]["calls"] < _FEW_CALLS]
    trends = [(label(row), _trend(row["samples_ms"])) for row in rows if row["latency"]["calls"] >= _FEW_CALLS]
    slower = [f"{name} ({trend:.0%})" for name, trend in trends if trend > _SLOWER]
    return [
        f"{text}: {', '.join(names)}"
        for text, names in (
            ("the calls spread widely about their mean; close other programs, fix the clock or measure longer", wide),
            ("too few calls for a 99th percentile; measure longer", few),
            ("the last fifth of the calls is slower than the first, by heat or by other programs", slower),
        )
        if names
    ]


def _trend(samples_ms: list[float]) -> float:
    fifth = len(samples_ms) // 5
    return float(np.median(samples_ms[-fifth:]) / np.median(samples_ms[:fifth])) - 1


def markdown(result: Values) -> str:
    """All of it as one Markdown section."""
    told = result["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    machine = [f"{told['cpu']} x{told['cpu_count']}", f"{told['memory_gib']} GiB", told["os"], told["date"]]
    machine += [" ".join(told[key].split()) for key in ("jetpack", "power_mode", "gpu") if told[key]]
    height, width = result["model_hw"]
    lines = [
        f"## {result['bundle']} ({result['bundle_id']}), {height}x{width} pixels",
        "",
        *(line for table in tables(result) for line in _markdown_table(*table)),
        f"{'; '.join(machine)}. {versions}. Peak memory {result['peak_rss_mib']:.0f} MiB. "
        f"Each {result['config']['duration_s']:g} s, in turns; means with their 95 % interval (batch means).",
    ]
    lines += ["", *(f"- warning: {text}" for text in warnings(result))]
    return "\n".join(lines).rstrip() + "\n"


@dataclass(frozen=True)
class Change:
    """One measurement in two results: `ratio` of the median times, after over before, and its 95 % interval."""

    label: str
    before_ms: float
    after_ms: float
    ratio: float
    interval: Interval

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `no difference shown` where the interval holds 1."""
        low, high = self.interval
        return "faster" if high < 1 else "slower" if low > 1 else "no difference shown"

    def to_dict(self) -> Values:
        """Plain JSON values."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def compare(before: Values, after: Values) -> list[Change]:
    """What changed in each measurement that both results have.

    Where each has one engine, these are held against each other whatever they are called. The interval knows of the
    machine's noise within each run, not of what differed from one run to the other: see `differences`.
    Raises DataError where they have no measurement in common.
    """
    alone = all(len(result["engines"]) == 1 for result in (before, after))
    keys = ("scenario", "batch") if alone else ("engine", "precision", "scenario", "batch")
    earlier = {tuple(row[key] for key in keys): row for row in before["results"]}
    changes = []
    for row in after["results"]:
        match = earlier.get(tuple(row[key] for key in keys))
        if match is None:
            continue
        samples = [np.array(one["samples_ms"], np.float64) for one in (match, row)]
        name = label(row) if label(row) == label(match) else f"{label(match)} -> {label(row)}"
        changes.append(
            Change(name, float(np.median(samples[0])), float(np.median(samples[1])), *ratio_of_medians(*samples))
        )
    if not changes:
        raise DataError("the two results have no engine, scenario and batch size in common")
    return changes


def differences(before: Values, after: Values) -> list[str]:
    """What else differs between two results, so that a ratio may not mean what it seems."""
    told = [
        f"{key}: {before[key]} -> {after[key]}"
        for key in ("bundle_id", "model_hw", "camera_sizes_hw")
        if before[key] != after[key]
    ]
    used = [[[e["engine"], e["provider"], e["threads"]] for e in one["engines"]] for one in (before, after)]
    if used[0] != used[1]:
        told.append(f"engine, provider, threads: {used[0]} -> {used[1]}")
    busy = [(one["activity"] or {}).get("others", 0.0) for one in (before, after)]
    if max(busy) > _BUSY:
        told.append("other programs took {:.0%} -> {:.0%} of the processors, which no interval knows of".format(*busy))
    old, new = ({**one["environment"], **one["environment"]["versions"]} for one in (before, after))
    told += [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted((old.keys() | new.keys()) - _OF_THE_MOMENT)
        if old.get(key) != new.get(key)
    ]
    return told


def label(row: Values) -> str:
    """What a measurement is called."""
    return f"{_short(row)}, {row['scenario']}"


def _short(row: Values) -> str:
    batch = "" if row["scenario"] == "single-stream" else f", batch {row['batch']}"
    return f"{row['engine']} {row['precision']}{batch}"


def _markdown_table(title: str, columns: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    rule = ["---", *("---:" for _ in columns[1:])]
    return [f"### {title}", "", *(f"| {' | '.join(cells)} |" for cells in (columns, rule, *body)), ""]
