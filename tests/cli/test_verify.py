"""`verify --layers`: the table, the JSON, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, output_of

pytestmark = pytest.mark.slow


def test_layers_are_compared(run: Run, bundle_path: Path) -> None:
    found = output_of(run("verify", bundle_path, "--layers", "--json"))
    assert found["first"] is None
    assert set(found["layers"][0]) == {"tensor", "difference"}
    code, out, err = run("verify", bundle_path, "--layers")
    assert code == 0, err
    assert out.count("e-") >= 5  # differences, the largest first
    assert "passed" in err


def test_an_engine_without_layers_is_refused(run: Run, bundle_path: Path) -> None:
    code, _, err = run("verify", bundle_path, "--layers", "--engine", "openvino")
    assert (code, "layers can be compared on onnxruntime" in err) == (2, True)
