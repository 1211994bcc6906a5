from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplenet_edge.imaging.decode import read_image
from simplenet_edge.spec import OperatingPoint
from tests.bundles import write_tiny_bundle
from tests.cli.conftest import Run
from tests.waiting import SOON_S

pytestmark = pytest.mark.slow

PARTS = "test://?size=96x64&frames=12&defects=0.3&seed=1"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny.bundle").path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_several_sources_and_sinks(run: Run, bundle: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    sources = [f"{PARTS}#name=left", f"{PARTS}#name=right&every=2"]
    code, out, err = run("run", bundle, *sources, "--engine", "fake", "--jsonl", first, "--to", second, "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["frames"] == 18
    assert summary["lost"] == 0
    lines = lines_of(first)
    assert [line["frame_id"] for line in lines if line["camera"] == "right"] == [0, 2, 4, 6, 8, 10]
    assert sorted(map(str, lines)) == sorted(map(str, lines_of(second)))


def test_a_shadow_changes_no_verdict(run: Run, bundle: Path, tmp_path: Path) -> None:
    strict = write_tiny_bundle(tmp_path / "strict", operating_point=OperatingPoint(0.1, 0.05, 40, True))
    for name, words in (("alone", []), ("shadowed", ["--shadow", strict.path])):
        assert run("run", bundle, PARTS, "--jsonl", tmp_path / name, *words)[0] == 0
    alone, shadowed = ([line["verdict"] for line in lines_of(tmp_path / name)] for name in ("alone", "shadowed"))
    assert alone == shadowed


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--json"], 2, "--json needs --jsonl"),
        (["--watch", "sometimes"], 2, "alarm, invalid or off"),
        (["--false-rejects", "0"], 2, "false_rejects must be between 0 and 1"),
        (["--bad-share", "2"], 2, "bad_share must be between 0 and 1"),
        (["--deadline-ms", "0"], 2, "deadline_ms must be positive"),
        (["--serve", "host"], 2, "expected an address"),
        (["--to", "carrier-pigeon://x"], 2, "mqtt"),
        (["--shadow", "absent.bundle"], 5, "no such bundle"),
        (["--overlay", "some"], 2, "ng or all"),
        (["--keep", "kept", "--keep-ok", "1.5"], 2, "a share from 0 to 1"),
    ],
)
def test_what_can_t_work_is_said_before_a_frame_is_inspected(
    run: Run, bundle: Path, words: list[str], code: int, message: str
) -> None:
    found, out, err = run("run", bundle, PARTS, "--engine", "fake", *words)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]


def test_two_sources_of_one_name(run: Run, bundle: Path) -> None:
    code, _, err = run("run", bundle, PARTS, PARTS, "--engine", "fake")
    assert code == 2
    assert "add #name=" in err


@pytest.fixture
def line(bundle: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A line in a process of its own, with the address of its page."""
    command = [sys.executable, "-c", "from simplenet_edge.cli import main; main()", "run", str(bundle)]
    command += ["test://?fps=50&size=96x64#frozen=off&name=cam", "--jsonl", str(tmp_path / "v.jsonl"), "--serve", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = ""
    while not url:
        text = process.stderr.readline()
        assert text, "it ended before it served its page"
        found = re.search(r"monitor page: (\S+)", text)
        url = found[1] if found else ""
    yield process, url
    process.kill()
    process.communicate()


def status_of(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/status", timeout=SOON_S) as answer:
        status: dict[str, Any] = json.load(answer)
        return status


def wait_for(url: str, ready: Any) -> dict[str, Any]:
    end = time.monotonic() + SOON_S
    while not ready(status := status_of(url)):
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return status


def test_a_live_line_is_served_swapped_and_stopped(line: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, url = line
    before = wait_for(url, lambda status: status["cameras"].get("cam", {}).get("frames", 0) >= 5)
    assert before["healthy"]
    new = write_tiny_bundle(tmp_path / "new", operating_point=OperatingPoint(0.5, 0.05, 40, True))
    new_id = new.id
    (tmp_path / "tiny.bundle").rename(tmp_path / "old")
    new.path.rename(tmp_path / "tiny.bundle")
    process.send_signal(signal.SIGHUP)
    after = wait_for(url, lambda status: status["model"]["swaps"] == 1)
    assert after["model"]["bundle_id"] == new_id != before["model"]["bundle_id"]
    wait_for(url, lambda status: status["cameras"]["cam"]["frames"] > after["cameras"]["cam"]["frames"])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    counted = re.search(r"(\d+) frames in .*\(interrupted\)", err)
    assert counted is not None, err
    lines = lines_of(tmp_path / "v.jsonl")
    assert len(lines) == int(counted[1])
    assert [entry["bundle_id"] for entry in lines] == sorted(
        (entry["bundle_id"] for entry in lines), key=lambda bundle_id: bundle_id == new_id
    )


def test_sources_that_give_nothing(run: Run, bundle_path: Path, tmp_path: Path) -> None:
    code, out, err = run("run", bundle_path, tmp_path / "absent.mp4")
    assert (code, out) == (8, "")
    assert "absent.mp4" in err


def test_overlays_show_the_frame(run: Run, bundle_path: Path, parts: Path, tmp_path: Path) -> None:
    source = next((parts / "test" / "good").iterdir())
    run("run", bundle_path, source, "--overlays", tmp_path / "overlays", "--overlay", "all", "--jsonl", tmp_path / "v")
    drawn = read_image(next((tmp_path / "overlays").iterdir()))
    assert drawn.shape == (64, 64, 3)
    assert np.ptp(drawn) > 50
    assert json.loads((tmp_path / "v").read_text())["verdict"] in ("OK", "NG")


def test_pictures_are_kept_for_learning(run: Run, bundle: Path, tmp_path: Path) -> None:
    kept, records = tmp_path / "kept", tmp_path / "v.jsonl"
    words = ["--keep", kept, "--keep-ok", "1", "--keep-quota", "10", "--jsonl", records]
    code, _, err = run("run", bundle, f"{PARTS}#name=left&xywh=10,20,40,30", "--engine", "fake", *words)
    assert code == 0, err
    lines = lines_of(records)
    files = {json.loads(path.read_text())["frame_id"]: path for path in kept.glob("*/*.json")}
    assert sorted(files) == [line["frame_id"] for line in lines]
    for line in lines:
        path = files[line["frame_id"]]
        record = json.loads(path.read_text())
        why = record.pop("why")
        assert record == line
        assert path.parent.name == {"sample": "ok"}.get(why, why)
        assert (why == "ng") == (line["verdict"] == "NG")
        assert read_image(path.with_suffix(".png")).shape == (30, 40, 3)
    assert {line["verdict"] for line in lines} == {"OK", "NG"}
