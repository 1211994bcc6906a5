"""A line that is asked to swap to a bundle that is not whole stays on its model, and `verify` refuses it too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle, npy_bytes, write_bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import SimpleNetEdgeError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.model_loader import ModelLoader
from tests.bundles import tiny_files, tiny_graph, tiny_manifest, write_tiny_bundle
from tests.cli.conftest import Run, run
from tests.runtime.belts import Kept, LiveBelt
from tests.runtime.line.test_line import running

__all__ = ["run"]  # a fixture


def of_statistics(**changes: Any) -> Callable[[Path], object]:
    """Write a bundle of version 0.1.0, without a checksum, with other statistics."""

    def write(path: Path) -> None:
        write_tiny_bundle(path)
        values = json.loads((path / "manifest.json").read_text())
        del values["versions"]["manifest.json"]
        values["precisions"]["fp32"]["score_statistics"].update(changes)
        (path / "manifest.json").write_text(json.dumps(values))

    return write


def flip_threshold(path: Path) -> None:
    write_tiny_bundle(path)
    text = (path / "manifest.json").read_text()
    assert '"threshold": 60.0' in text
    (path / "manifest.json").write_text(text.replace('"threshold": 60.0', '"threshold": 68.0'))


BAD = {
    "too many images": of_statistics(n=2**31),
    "no largest score": of_statistics(max=None),
    "a flipped bit": flip_threshold,
    "another frame size": lambda path: write_tiny_bundle(path, tiny_graph(height=40)),
    "no golden frames": lambda path: write_bundle(path, tiny_manifest(), {"model.fp32.onnx": tiny_graph()}),
    "a golden score that is not finite": lambda path: write_bundle(
        path, tiny_manifest(), {**tiny_files(), "golden/score.npy": npy_bytes(np.full(4, np.nan, np.float32))}
    ),
}


@pytest.mark.parametrize("write", BAD.values(), ids=BAD.keys())
def test_a_bundle_that_is_not_whole_is_not_taken(
    bundle: Bundle, tmp_path: Path, run: Run, write: Callable[[Path], object]
) -> None:
    write(tmp_path / "bad")
    code, _, err = run("verify", tmp_path / "bad", "--engine", "onnxruntime")
    assert code in (5, 6)
    assert err.splitlines()[-1].startswith("error: ")
    belt, kept = LiveBelt(), Kept()
    with open_engine(bundle) as engine:
        line = Line([belt], Detector(engine), [kept], reload=ModelLoader(tmp_path / "bad").load)
        with running(line):
            belt.step()
            with pytest.raises(SimpleNetEdgeError):
                line.swap()
            belt.step()
            kept.wait_for(2)
    assert {result.bundle_id for result in kept.results} == {bundle.id}
    assert kept.verdicts == ["OK", "OK"]
