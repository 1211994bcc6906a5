from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import StdinImages

PART = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PNG, JPEG, BMP = (cv2.imencode(suffix, PART)[1].tobytes() for suffix in (".png", ".jpg", ".bmp"))

READ = """
import json, sys
from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import open_source
try:
    with open_source(sys.argv[1]) as source:
        for record in source:
            shape = None if record.image is None else record.image.shape
            print(json.dumps([record.frame_id, record.name, shape, record.error]), flush=True)
            if len(sys.argv) > 2:
                source.stop()
except SourceError as error:
    sys.exit(f"SourceError: {error}")
"""


def read(data: bytes, uri: str = "-") -> list[Any]:
    done = subprocess.run([sys.executable, "-c", READ, uri], input=data, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("data", [PNG, JPEG, BMP])
def test_one_image(data: bytes) -> None:
    assert read(data) == [[0, "stdin#0", [48, 64, 3], None]]


def test_several_back_to_back_and_what_is_cut_off_is_an_error() -> None:
    *whole, last = read(PNG + JPEG + PNG + JPEG[:-20], "-#name=pipe")
    assert whole == [[i, f"pipe#{i}", [48, 64, 3], None] for i in range(3)]
    assert last[:3] == [3, "pipe#3", None]
    assert "standard input, image 3: the image is cut off" in last[3]


def test_an_image_above_the_limit_is_invalid_and_the_rest_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    large = cv2.imencode(".png", np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8))[1].tobytes()
    with tempfile.TemporaryFile("w+b") as file:
        file.write(PNG + large + JPEG + PNG)
        file.seek(0)
        monkeypatch.setattr(sys, "stdin", file)
        with StdinImages(max_bytes=len(large) - 1) as source:
            records = list(source)
    assert [record.frame_id for record in records] == [0, 1, 2, 3]
    assert ["image 1: an image has more than" in (record.error or "") for record in records] == [False, True] + [
        False
    ] * 2


def test_nothing_is_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", READ, "-"], input=b"", capture_output=True, check=False)
    assert b"SourceError: standard input is empty" in done.stderr


def test_the_program_ends_while_standard_input_waits() -> None:
    command = [sys.executable, "-c", READ, "-", "stop"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stderr is not None
        program.stdin.write(PNG)
        program.stdin.flush()
        assert program.wait(120) == 0, program.stderr.read()


def test_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        StdinImages().__enter__()


def test_each_line_is_a_trigger_and_the_end_ends_it() -> None:
    uri = "test://?fps=100&size=64x48#name=top&trigger=stdin&timeout=60"
    for lines in (b"\n\nthird\n", b"\n\nwithout its end"):
        assert read(lines, uri) == [[i, f"top#{i}", [48, 64, 3], None] for i in range(3)]


def test_more_lines_than_may_wait_are_invalid_each() -> None:
    records = read(b"\n" * 100, "test://?fps=2&size=64x48#trigger=stdin&timeout=60")
    assert [record[0] for record in records] == list(range(100))
    good = [record for record in records if record[3] is None]
    assert len(good) >= 16
    assert all("16 triggers wait" in record[3] for record in records if record[3] is not None)
