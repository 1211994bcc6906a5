"""What a figure was measured on, and the one way in which all scripts here measure: interleaved, so that a machine that
slows down slows every candidate down."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simplenet_edge.files import write_json
from simplenet_edge.system import cpu_count, cpu_model, memory_bytes

__all__ = ["RESULTS", "interleaved_ms", "machine", "summary", "write_result"]

RESULTS = Path(__file__).parent / "results"


def machine(*packages: str) -> dict[str, Any]:
    """The machine, the date and the versions of `packages`."""
    return {
        "cpu": cpu_model(),
        "cpu_count": cpu_count(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }


def interleaved_ms(calls: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3) -> dict[str, list[float]]:
    """Wall times in milliseconds: each round runs every call once, so that all see the same machine."""
    for call in calls.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - started))
    return times


def summary(times: Mapping[str, list[float]], reference: str) -> dict[str, dict[str, float]]:
    """Median and spread of each call, and the median over the rounds of its ratio to `reference`."""
    return {
        name: {
            "p50_ms": round(statistics.median(values), 3),
            "p90_ms": round(statistics.quantiles(values, n=10)[-1], 3),
            "min_ms": round(min(values), 3),
            "ratio": round(statistics.median(a / b for a, b in zip(values, times[reference], strict=True)), 4),
        }
        for name, values in times.items()
    }


def write_result(name: str, values: dict[str, Any]) -> Path:
    """Keep a result as `results/NAME.json`."""
    path = RESULTS / f"{name}.json"
    write_json(path, values)
    return path
