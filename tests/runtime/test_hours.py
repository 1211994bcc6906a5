from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from simplenet_edge.runtime.hours import Hours, read_hours
from simplenet_edge.runtime.sinks import JsonlSink
from tests.runtime.sinks.results import result

NOW = datetime.now(timezone.utc).replace(minute=30, second=0, microsecond=0)


def line(camera: str, verdict: str, hours_ago: float) -> str:
    when = (NOW - timedelta(hours=hours_ago)).isoformat(timespec="milliseconds")
    return json.dumps({"camera": camera, "verdict": verdict, "wall_time": when}) + "\n"


def test_hours_of_a_week() -> None:
    hours = Hours()
    for i in range(10 * 24):
        hours.add("OK", NOW + timedelta(hours=i))
    hours.add("NG", NOW + timedelta(hours=239))
    kept = hours.to_list()
    assert len(kept) == 7 * 24
    assert kept[-1] == {
        "hour": (NOW + timedelta(hours=239)).replace(minute=0).isoformat(timespec="minutes"),
        "ok": 1,
        "ng": 1,
        "invalid": 0,
    }


def test_the_records_of_earlier_runs_are_read_rotated_ones_too(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    path.with_name("line.jsonl.1").write_text(line("left", "OK", 3) + line("left", "OK", 8 * 24), encoding="utf-8")
    bad = ["no json\n", "[1]\n", "{}\n", line("left", "MAYBE", 1), "[" * 100_000 + "\n", '{"wall_time": 7}\n']
    bad += ['{"camera": "left", "verdict": "OK", "wall_time": "9999-12-31T23:59:59-14:00"}\n']  # no hour in UTC
    path.write_text(line("left", "NG", 2) + "".join(bad) + line("right", "INVALID", 2), encoding="utf-8")
    found = {
        name: [(row["ok"], row["ng"], row["invalid"]) for row in hours.to_list()]
        for name, hours in read_hours(path).items()
    }
    assert found == {"left": [(1, 0, 0), (0, 1, 0)], "right": [(0, 0, 1)]}
    assert read_hours(tmp_path / "absent.jsonl") == {}


def test_what_the_sink_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as sink:
        sink.write(result(1))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(json.loads(text)["wall_time"], NOW.isoformat()), encoding="utf-8")
    assert read_hours(path)["left"].to_list()[0]["ok"] == 1
