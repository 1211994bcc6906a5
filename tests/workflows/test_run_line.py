"""The station of addresses and options, and the line of objects."""

from __future__ import annotations

import json
import logging
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.errors import BundleError, ConfigError, SourceError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.sinks import JsonlSink
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.workflows.run_line import StationOptions, plan_station, run_line, run_station
from tests.bundles import write_tiny_bundle

PARTS = "test://?size=96x64&frames=12&defects=0.3&seed=1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny.bundle").path


def verdicts(path: Path) -> list[tuple[str, int, str]]:
    lines = map(json.loads, path.read_text().splitlines())
    return sorted((line["camera"], line["frame_id"], line["verdict"]) for line in lines)


def test_an_address_with_a_secret_comes_from_a_file(path: Path, tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_text(f"{PARTS}#name=left\n", encoding="utf-8")
    sink.write_text(f"{tmp_path / 'there.jsonl'}\n", encoding="utf-8")
    said: list[str] = []
    options = StationOptions(engine="fake", jsonl=tmp_path / "a.jsonl", addresses=(f"@{sink}",), watch="off")
    run_station(plan_station(path, [f"@{source}"], options, said.append), said.append)
    assert verdicts(tmp_path / "there.jsonl") == verdicts(tmp_path / "a.jsonl")
    assert not any("password" in text for text in said)
    with pytest.raises(ConfigError, match="expected a file with one address"):
        run_station(plan_station(path, [f"@{tmp_path / 'absent'}"], options))


def test_a_password_on_the_command_line_is_warned_of_and_not_repeated(path: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = StationOptions(engine="fake", addresses=("ftp://cell:secret@host/x",), jsonl=tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="expected a path"):
        run_station(plan_station(path, [PARTS], options, said.append), said.append)
    (warning,) = (text for text in said if "password" in text)
    assert "@FILE" in warning
    assert "secret" not in warning


def test_objects_and_addresses_come_to_the_same(path: Path, tmp_path: Path) -> None:
    addresses = [f"{PARTS}#name=left", f"{PARTS}#name=right"]
    said: list[str] = []
    options = StationOptions(engine="fake", jsonl=tmp_path / "station.jsonl", watch="off")
    by_address = run_station(plan_station(path, addresses, options, said.append), said.append)
    with open_engine(Bundle(path), "fake") as engine:
        sinks = [JsonlSink(tmp_path / "line.jsonl")]
        by_object = run_line([open_source(address) for address in addresses], Detector(engine), sinks)
    assert (by_address.frames, by_address.ok, by_address.ng) == (by_object.frames, by_object.ok, by_object.ng)
    assert by_address.frames == 24
    assert verdicts(tmp_path / "station.jsonl") == verdicts(tmp_path / "line.jsonl")
    assert said == ["engine fake: asked for by name"]


def test_every_sink_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    options = StationOptions(
        engine="fake",
        jsonl=tmp_path / "first.jsonl",
        addresses=(str(tmp_path / "second.jsonl"),),
        overlays=tmp_path / "overlays",
        overlay="all",
    )
    summary = run_station(plan_station(path, [PARTS], options))
    assert (summary.frames, summary.lost) == (12, 0)
    assert verdicts(tmp_path / "first.jsonl") == verdicts(tmp_path / "second.jsonl")
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 12


def test_the_monitor_can_swap_as_soon_as_it_is_served(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is up before the first frame, and already knows whom to ask for a swap."""
    seen: list[dict[str, Any]] = []
    enter = Monitor.__enter__

    def served(monitor: Monitor) -> Monitor:
        enter(monitor)
        with urllib.request.urlopen(f"{monitor.url}/api/status", timeout=30) as answer:
            seen.append(json.load(answer))
        return monitor

    monkeypatch.setattr(Monitor, "__enter__", served)
    said: list[str] = []
    options = StationOptions(engine="fake", jsonl=tmp_path / "v.jsonl", serve="0")
    assert run_station(plan_station(path, [PARTS], options, said.append), said.append).frames == 12
    assert seen[0]["monitor"]["can_swap"] is True
    assert seen[0]["monitor"]["can_select"] is True
    assert said[1].startswith("monitor page: http://127.0.0.1:")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"watch": "sometimes"}, "alarm, invalid or off"),
        ({"overlay": "some"}, "ng or all"),
        ({"keep_ok": float("nan")}, "a share from 0 to 1"),
        ({"bad_share": 1.0}, "bad_share must be between 0 and 1"),
        ({"false_rejects": 0.0, "watch": "off"}, "false_rejects must be between 0 and 1"),
    ],
)
def test_options_that_can_not_work(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StationOptions(**values)


def test_nothing_stays_open_where_a_part_of_it_fails(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    options: dict[str, Any] = {"engine": "fake", "jsonl": tmp_path / "v.jsonl"}
    with pytest.raises(SourceError, match="absent"):
        run_station(plan_station(path, [str(tmp_path / "absent")], StationOptions(**options)))
    with pytest.raises(BundleError, match="no such bundle"):
        run_station(plan_station(path, [PARTS], StationOptions(**options, shadow=tmp_path / "absent.bundle")))
    with pytest.raises(ConfigError, match="expected an address"):
        run_station(plan_station(path, [PARTS], StationOptions(**options, serve="host")))
    with pytest.raises(ConfigError, match="add #name="):
        run_station(plan_station(path, [PARTS, PARTS], StationOptions(**options, serve="0")))
    assert not caplog.records
    assert run_station(plan_station(path, [PARTS], StationOptions(**options))).frames == 12


@pytest.mark.parametrize("option", ["overlays", "keep"])
def test_pictures_in_any_of_the_watched_folders_are_refused(path: Path, tmp_path: Path, option: str) -> None:
    """They would be inspected, and written again, for ever."""
    sources = []
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        sources.append(f"watch:{tmp_path / name}")
    folder: dict[str, Any] = {option: tmp_path / "right" / "pictures"}
    with pytest.raises(ConfigError, match="name a folder outside it for"):
        run_station(plan_station(path, sources, StationOptions(engine="fake", jsonl=tmp_path / "a.jsonl", **folder)))


@pytest.mark.parametrize("text", ["", "rtsp://u:secret@h/1\n# the left one\n"])
def test_a_file_without_just_one_address_is_refused(path: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "address").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="one address on one line") as caught:
        run_station(plan_station(path, [f"@{tmp_path / 'address'}"], StationOptions(engine="fake")))
    assert "secret" not in str(caught.value)
