"""A line from one file: what it says is what runs, and everything wrong with it is said at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.workflows.line_file import read_line_file
from simplenet_edge.workflows.run_line import run_station
from tests.bundles import write_tiny_bundle

WHOLE = """
[line]
engine = "onnxruntime"
threads = 1
deadline_ms = 60000
watch = "off"
bad_share = 0.02
false_rejects = 0.01
recipe_memory_mib = 512

[records]
jsonl = "records/line.jsonl"
rotate_mib = 10

[overlays]
folder = "ng"
quota_mib = 10

[keep]
folder = "kept"
ok_share = 1.0

[[recipe]]
name = "gear"
bundle = "gear.bundle"
number = 1

[[recipe]]
name = "shaft"
bundle = "shaft.bundle"

[[camera]]
address = "test://?frames=4&size=64x48"
name = "left & right"
xywh = [8, 8, 48, 32]

[[camera]]
address = "test://?frames=2&size=64x48&seed=1#name=top"

[[sink]]
to = "second.jsonl"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the bundles of WHOLE; the line is started from elsewhere."""
    for i, name in enumerate(("gear", "shaft")):
        write_tiny_bundle(tmp_path / f"{name}.bundle", operating_point=OperatingPoint(60.0 + i, 0.05, 40, True))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_the_file_says_runs(folder: Path) -> None:
    summary = run_station(read_line_file(write(folder, WHOLE)))
    assert (summary.frames, summary.lost) == (6, 0)
    lines: list[dict[str, Any]] = [*map(json.loads, (folder / "records" / "line.jsonl").read_text().splitlines())]
    assert {line["camera"] for line in lines} == {"left & right", "top"}
    assert {line["recipe"] for line in lines} == {"gear"}
    assert len((folder / "second.jsonl").read_text().splitlines()) == 6
    assert len(list((folder / "kept").rglob("*.png"))) == 6


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    wrong = WHOLE.replace("threads = 1", 'threads = "two"').replace('"off"', '"sometimes"')
    wrong = wrong.replace("deadline_ms", "dead_line").replace("xywh = [8, 8, 48, 32]", "exposure = 4")
    wrong = wrong.replace('"shaft.bundle"', '"absent.bundle"').replace('"second.jsonl"', '"ftp://host"')
    wrong = wrong.replace('name = "shaft"', 'name = "1"').replace("[records]", "[record]")
    with pytest.raises(ConfigError) as caught:
        read_line_file(write(folder, wrong))
    faults = str(caught.value).splitlines()
    for expected in (
        "record: expected one of line, records",
        "[line]: threads must be a whole number from 1, not 'two'",
        "[line]: no key 'dead_line'; expected engine, ",
        "watch must be alarm, invalid or off",
        "bundle: ",
        "recipe: 1 is there twice",
        "camera 1: #name=",
        "sink 1: ftp:",
    ):
        assert any(f"line.toml: {expected}" in fault for fault in faults), (expected, faults)
    assert len(faults) == 8


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[line]", "[line", "this is not TOML"),
        ("[line]", "line = 3\n[other]", "line: expected a table [line]"),
        ("[[sink]]", "[sink]", "sink: expected tables [[sink]]"),
        ('[[sink]]\nto = "second.jsonl"', "[[sink]]", "sink 1: to missing"),
        ('"second.jsonl"', '"records/line.jsonl"', "both write to"),
        ('address = "test://?frames=4&size=64x48"', "", "camera 1: address missing"),
        ('bundle = "gear.bundle"', "", "recipe 1: bundle missing"),
        ("#name=top", "#name=left %26 right", "expected sources of different names"),
        ('address = "test://?frames=4&size=64x48"', "address = 3", "camera 1: address must be text, not 3"),
        ("deadline_ms = 60000", "deadline_ms = 0", "deadline_ms must be positive"),
        ('"onnxruntime"', '"onnxrt"', "onnxrt"),
        ("[records]", '[monitor]\nserve = "host"\n[records]', "[monitor]: expected an address"),
        ("[records]", 'precision = "int8"\n[records]', "int8"),
        ("[records]", 'shadow = "absent"\n[records]', "no such bundle"),
        ("ok_share = 1.0", "ok_share = nan", "ok_share must be a number from 0, not nan"),
        ("ok_share = 1.0", "ok_share = 3", "a share from 0 to 1"),
        ('"kept"', '""', "folder must be a path, not ''"),
    ],
)
def test_each_fault_has_its_words(folder: Path, old: str, new: str, fault: str) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigError) as caught:
        read_line_file(write(folder, WHOLE.replace(old, new, 1)))
    assert fault in str(caught.value)


def test_without_recipes_or_cameras_there_is_no_line(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_line_file(write(folder, ""))
    assert str(caught.value).count("expected at least one") == 2
    with pytest.raises(ConfigError, match="expected a line's TOML file"):
        read_line_file(folder / "absent.toml")
