"""Every command on real files, and one clear line for each kind of bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Run, output_of

pytestmark = pytest.mark.slow


def test_from_images_to_verdicts(run: Run, parts: Path, tmp_path: Path) -> None:
    folder, bundle = tmp_path / "run", tmp_path / "run.bundle"
    trained = output_of(run(*TRAIN, "--data", parts, "--alpha", "0.3", "-o", folder, "--json"))
    assert trained["operating_point"]["guaranteed"] is True
    evaluated = output_of(run("evaluate", folder, "--data", parts, "--json"))
    assert len(evaluated["images"]) == 10
    assert (folder / "evaluation" / "report.html").stat().st_size > 10_000
    exported = output_of(run("export", folder, "--json"))
    assert exported["bundle"] == str(bundle)
    assert output_of(run("verify", bundle, "--json"))["passed"] is True
    shown = output_of(run("inspect", bundle, "--json"))
    assert shown["precisions"]["fp32"]["metrics"]["image_auroc"] == evaluated["metrics"]["image_auroc"]
    timed = output_of(run("benchmark", bundle, "--duration", "0.05", "--batch", "1,2", "--json"))
    assert [row["batch"] for row in timed["results"]] == [1, 1, 2, 1, 2]
    code, out, err = run("run", bundle, parts / "test", "--overlays", tmp_path / "overlays", "--overlay", "all")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    scores = {image["path"]: image["score"] for image in evaluated["images"]}
    assert len(lines) == 10
    for line in lines:  # the runtime says what PyTorch said
        assert line["score"] == pytest.approx(scores[f"test/{line['name']}"], rel=1e-4, abs=1e-5)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 10


def test_tables_are_for_people(run: Run, bundle_path: Path) -> None:
    for words in (("inspect", bundle_path), ("verify", bundle_path)):
        code, out, err = run(*words)
        assert code == 0, err
        assert "─" in out


def test_version_and_help(run: Run) -> None:
    assert run("--version")[:2] == (0, "0.1.0\n")
    assert "benchmark" in run("--help")[1]
    assert run("nonsense")[0] == 2


def damaged(bundle: Path, tmp_path: Path, name: str, edit: Callable[[bytes], bytes]) -> Path:
    copy = tmp_path / "damaged.bundle"
    shutil.copytree(bundle, copy)
    (copy / name).write_bytes(edit((copy / name).read_bytes()))
    return copy


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("model.fp32.onnx", lambda data: data[: len(data) // 2], "SHA-256"),
        ("model.fp32.onnx", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
        ("manifest.json", lambda data: data[:100], "not JSON"),
    ],
    ids=["truncated graph", "changed byte", "truncated manifest"],
)
def test_a_damaged_bundle(
    run: Run, bundle_path: Path, parts: Path, tmp_path: Path, name: str, edit: Callable[[bytes], bytes], message: str
) -> None:
    for command in (("verify",), ("inspect",), ("run", parts / "test"), ("benchmark",)):
        path = tmp_path / command[0]
        path.mkdir()
        code, out, err = run(command[0], damaged(bundle_path, path, name, edit), *command[1:])
        assert (code, out) == (5, "")
        assert message in err
