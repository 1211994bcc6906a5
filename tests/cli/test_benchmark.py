from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from simplenet_edge.cli import benchmark as benchmarking
from simplenet_edge.errors import ConfigError, DataError, SimpleNetEdgeError
from tests.bundles import write_tiny_bundle

BRIEFLY = ("--duration", "0.05", "--camera", "160x90")


def benchmark(*words: object) -> str:
    """Standard output of the command; what it raises is raised."""
    app = typer.Typer()
    app.command()(benchmarking.benchmark)
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, SimpleNetEdgeError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").path


def test_measured_saved_and_compared(bundle: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    for path in (before, after):
        path.write_text(benchmark(bundle, *BRIEFLY, "--engine", "onnxruntime", "--batch", "1,2", "--json"))
    values = json.loads(before.read_text())
    assert [(row["scenario"], row["batch"]) for row in values["results"]] == [
        ("single-stream", 1),
        ("offline", 1),
        ("offline", 2),
        ("stream", 1),
        ("stream", 2),
    ]
    compared = json.loads(benchmark("--compare", before, after, "--json"))
    assert len(compared["changes"]) == 5
    assert all(text.startswith("other programs") for text in compared["differences"])
    assert "before.json -> after.json" in benchmark("--compare", before, after)


def test_tables_markdown_and_plots(bundle: Path, tmp_path: Path) -> None:
    options = (
        "--all",
        "--scenario",
        "single-stream,stream",
        "--markdown",
        tmp_path / "b.md",
        "--plots",
        tmp_path / "p",
    )
    out = benchmark(bundle, *BRIEFLY, *options)
    assert "single-stream: one frame per call" in out
    assert "offline" not in out
    assert "| onnxruntime fp32 |" in (tmp_path / "b.md").read_text()
    assert (tmp_path / "p" / "onnxruntime-fp32-single-stream-calls.svg").stat().st_size > 1000


def test_images_of_a_source(bundle: Path, tmp_path: Path) -> None:
    for i in range(3):
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((90, 120, 3), 50 * i, np.uint8))
    options = ("--source", tmp_path, "--scenario", "stream", "--duration", "0.05", "--json")
    values = json.loads(benchmark(bundle, "--engine", "fake", *options))
    assert values["camera_sizes_hw"] == [[90, 120]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a bundle"),
        (("BUNDLE", "--compare", "a.json", "b.json"), "leave the bundle out"),
        (("BUNDLE", "--source", "x", "--camera", "10x10"), "leave one out"),
        (("BUNDLE", "--all", "--engine", "openvino"), "leave --engine"),
        (("BUNDLE", "--scenario", "server"), "scenarios are single-stream, offline, stream"),
        (("BUNDLE", "--batch", "0"), "at least 1"),
    ],
)
def test_options_that_contradict_are_refused(bundle: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        benchmark(*(bundle if word == "BUNDLE" else word for word in words))


def test_a_file_that_cannot_be_written_or_read(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        benchmark("--compare", tmp_path / "a.json", tmp_path / "b.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        benchmark(bundle, *BRIEFLY, "--engine", "fake", "--markdown", tmp_path / "file" / "b.md")
