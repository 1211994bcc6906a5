"""`serve` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.spec import OperatingPoint
from tests.bundles import even_frames, write_tiny_bundle
from tests.cli.conftest import Run
from tests.serving.clients import client_of, infer, require_bundle
from tests.waiting import SOON_S


@pytest.fixture
def served(bundle: Bundle, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The tiny bundle under its own name, and two versions of another name; with the address."""
    write_tiny_bundle(tmp_path / "second", operating_point=OperatingPoint(20.0, 0.05, 40, True))
    models = [bundle.path, f"part={bundle.path}", f"part={tmp_path / 'second'}"]
    command = [sys.executable, "-c", "from simplenet_edge.cli import main; main()", "serve", *map(str, models)]
    process = subprocess.Popen(
        [*command, "--engine", "onnxruntime", "--threads", "1", "--listen", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"serving at (\S+)/v2", said)):
        line = process.stderr.readline()
        assert line, f"it ended before it served: {said}"
        said += line
    yield process, found[1]
    process.kill()
    process.communicate()


def test_serves_until_it_is_told_to_end(served: tuple[subprocess.Popen[str], str], bundle: Bundle) -> None:
    process, url = served
    require_bundle(url, "tiny", bundle)
    parameters = infer(client_of(url), "part", even_frames(1)).get_response()["parameters"]
    assert parameters["threshold"] == 20.0
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent"], 5, "no such bundle"),
        (["a b=BUNDLE"], 2, "a model's name"),
        (["=BUNDLE"], 2, "a model's name"),
        (["part="], 5, "missing"),
        (["BUNDLE", "--listen", "host"], 2, "expected an address"),
        (["BUNDLE", "--listen", "0.0.0.0:0"], 2, "SIMPLENET_EDGE_SERVE_TOKEN"),
        (["BUNDLE", "--listen", "0.0.0.0:0", "--token-file", "absent"], 2, "a file with the token"),
        (["BUNDLE", "--max-batch", "0"], 2, "at least 1 frame"),
        (["BUNDLE", "--max-batch", "200"], 2, "must hold a batch of 200"),
        (["BUNDLE", "--batch-wait", "-1"], 2, "from 0 to 1000 ms"),
        (["BUNDLE", "--timeout", "0"], 2, "up to 3600 seconds"),
        (["BUNDLE", "--connections", "0"], 2, "at least 1 connection"),
        (["BUNDLE", "--precision", "int8"], 5, "no int8 graph"),
        (["BUNDLE", "--log-level", "loud"], 2, "--log-level"),
    ],
)
def test_what_can_t_be_served(run: Run, bundle: Bundle, words: list[str], code: int, message: str) -> None:
    words = [word.replace("BUNDLE", str(bundle.path)) for word in words]
    found, out, err = run("serve", *words, "--engine", "fake")
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
