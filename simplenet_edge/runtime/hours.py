"""How many parts of each hour were OK, NG and INVALID: counted as they come, or read from the records of earlier runs.

Hours are UTC. What is read is bounded, so that a start takes no longer after a year than after a week.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

from simplenet_edge.runtime.records import VerdictName

__all__ = ["Counts", "Hours", "read_hours"]

_KEPT = 7 * 24
_MOST_BYTES = 64 * 2**20
"""Of JSON lines that are read at the start: about 150,000 results."""


@dataclass
class Counts:
    """Results by verdict."""

    ok: int = 0
    ng: int = 0
    invalid: int = 0

    def add(self, verdict: VerdictName) -> None:
        """Count one."""
        name = verdict.lower()
        setattr(self, name, getattr(self, name) + 1)


class Hours:
    """The counts of the last seven days of one camera, by hour. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: OrderedDict[datetime, Counts] = OrderedDict()

    def add(self, verdict: VerdictName, when: datetime) -> None:
        """Count one result of the time `when`, which has a time zone."""
        hour = when.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0)
        if hour not in self._counts:
            self._counts[hour] = Counts()
            while len(self._counts) > _KEPT:
                self._counts.popitem(last=False)
        self._counts[hour].add(verdict)

    def to_list(self) -> list[dict[str, Any]]:
        """Plain JSON values, oldest first: `hour` in ISO 8601, and its counts."""
        hours = sorted(self._counts.items())
        return [{"hour": hour.isoformat(timespec="minutes"), **asdict(counts)} for hour, counts in hours]


def read_hours(path: Path) -> dict[str, Hours]:
    """The hours of each camera in the JSON lines at `path` and in what they were rotated to, of the last seven days.

    At most the newest 64 MiB are read. Lines that are no results are passed over, and so is a file that can't be read.
    """
    oldest = datetime.now(timezone.utc) - timedelta(hours=_KEPT)
    found: dict[str, Hours] = {}
    for line in _lines(path):
        try:
            values = json.loads(line)
            camera, verdict, when = values["camera"], values["verdict"], datetime.fromisoformat(values["wall_time"])
            if verdict in get_args(VerdictName) and isinstance(camera, str) and when >= oldest:
                found.setdefault(camera, Hours()).add(verdict, when)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    return found


def _lines(path: Path) -> Iterator[bytes]:
    """Of the newest files, oldest line first."""
    files, left = [], _MOST_BYTES
    number = 0
    while left > 0 and os.path.isfile(file := path if number == 0 else path.with_name(f"{path.name}.{number}")):
        files.append((file, max(0, file.stat().st_size - left)))
        left -= file.stat().st_size
        number += 1
    for file, start in reversed(files):
        try:
            with file.open("rb") as opened:
                opened.seek(start)
                yield from opened
        except OSError:
            continue
