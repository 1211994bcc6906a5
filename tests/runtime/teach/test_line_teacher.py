"""A line in a process of its own is taught over HTTP, swaps to what it has learned, and goes back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.imaging.decode import read_image
from tests.runtime.teach.test_teach import with_label
from tests.waiting import until


class RunningLine(NamedTuple):
    url: str
    incoming: Path  # images that it inspects
    keep: Path
    bundle: Path
    records: Path

    def post(self, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.url}/{path}",
            data=content if isinstance(content, bytes) else json.dumps(content).encode(),
            headers={"X-Simplenet-Edge": "1"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=60) as answer:
            return json.load(answer)

    def inspect(self, name: str, image: Any) -> str:
        """The verdict on an image that comes in now."""
        assert cv2.imwrite(str(self.incoming / f".{name}.png"), image)
        (self.incoming / f".{name}.png").rename(self.incoming / f"{name}.png")
        found: list[str] = []

        def is_judged() -> bool:
            lines = self.records.read_text().splitlines() if self.records.exists() else []
            records = [json.loads(line) for line in lines]
            found[:] = [one["verdict"] for one in records if one["name"] == f"{name}.png"]
            return bool(found)

        until(is_judged)
        return found[0]


@pytest.fixture(scope="module")
def line(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLine]:
    tmp_path = tmp_path_factory.mktemp("line")
    bundle = shutil.copytree(bundle_path, tmp_path / "part.bundle")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    command = [sys.executable, "-c", "from simplenet_edge.cli import main; main()", "run", str(bundle)]
    command += [f"watch:{incoming}", "--serve", "0"]
    command += ["--keep", str(tmp_path / "kept"), "--jsonl", str(tmp_path / "v.jsonl"), "--engine", "onnxruntime"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        url = ""
        while not url:
            text = process.stderr.readline()
            assert text, "it ended before it served its page"
            if found := re.search(r"monitor page: (\S+)", text):
                url = found[1]
        line = RunningLine(url, incoming, tmp_path / "kept", bundle, tmp_path / "v.jsonl")
        until(lambda: line.get("api/status")["state"] == "running")  # what lay in the folder before is not inspected
        yield line
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def kept(line: RunningLine, name: str) -> str:
    """What the gallery calls the kept picture of a part, once it is on disk."""
    found: list[str] = []

    def is_kept() -> bool:
        found[:] = [item["kept"] for item in line.get("api/gallery")["items"] if item["name"] == f"{name}.png"]
        return bool(found) and (line.keep / f"{found[0]}.png").is_file()

    until(is_kept)
    return found[0]


def test_a_part_is_marked_good_learned_compared_used_and_unlearned(line: RunningLine, parts: Path) -> None:
    first = with_label(read_image(load_dataset(parts).train[0].path))
    assert line.inspect("first", first) == "NG"
    marked = kept(line, "first")
    before = line.get("api/status")
    assert before["monitor"]["can_teach"]
    assert before["shadow"] is None

    code, said = line.post("api/teach", {"good": [marked], "by": "Ada"})
    assert code == 200, said
    assert "lesson 1 is in the shadow: 1 parts marked good, 0 bad" in said["text"]
    assert (line.bundle.parent / "part.bundle-lesson1").is_dir()
    until(lambda: line.get("api/status")["shadow"])
    until(lambda: line.get("api/status")["model"]["swap_to"] == "shadow")
    assert next(iter(line.get("api/status")["watch"].values()))["rejects"]["marked_good"] == 1
    assert line.inspect("again", first) == "NG"  # the shadow decides nothing
    until(lambda: line.get("api/status")["shadow"]["ng_to_ok"] == 1)
    assert line.post("api/swap")[0] == 200
    assert line.inspect("used", first) == "OK"
    until(lambda: line.get("api/status")["model"]["swap_to"] == "before")
    assert line.post("api/swap")[0] == 200
    assert line.inspect("undone", first) == "NG"
    until(lambda: line.get("api/status")["model"]["bundle_id"] == before["model"]["bundle_id"])

    twin = first.copy()
    twin[:2, :2] ^= 1  # another picture of the same kind, which nobody has marked
    assert line.inspect("twin", twin) == "NG"
    kept(line, "twin")
    code, refused = line.post("api/teach", {"good": [marked], "by": "Ada"})
    assert code == 409
    assert [name.endswith("twin.png-NG.png") for name in refused["pictures"]] == [True]


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (b"[", 400, "expected"),
        ({"good": ["ng/../../secret"], "by": "Ada"}, 500, "not among the pictures"),
        ({"good": ["ng/absent"], "by": "Ada"}, 500, "not among the pictures"),
        ({"good": [3], "by": "Ada"}, 400, "expected"),
        ({"good": "ng/x", "by": "Ada"}, 400, "expected"),
        ({"good": []}, 400, "expected"),
        ({"good": [], "by": " "}, 500, "who marks"),
        (b"x" * 70_000, 400, "more than"),
    ],
)
def test_what_is_no_lesson_is_refused(line: RunningLine, content: Any, code: int, text: str) -> None:
    found, said = line.post("api/teach", content)
    assert (found, text in said["error"]) == (code, True), said
