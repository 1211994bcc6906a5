"""Every command on real files, and one clear line for each kind of bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplenet_edge.imaging.decode import read_image
from tests.cli.conftest import Run


def output_of(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    values: dict[str, Any] = json.loads(out)
    return values


TRAIN = ("train", "--backbone", "resnet18", "--random-weights", "--size", "64", "--meta-epochs", "1")


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
    for words in (("inspect", bundle_path), ("verify", bundle_path), ("doctor",)):
        code, out, err = run(*words)
        assert code == 0, err
        assert "─" in out


def test_explain_names_each_layer(run: Run, run_folder: Path, tmp_path: Path) -> None:
    code, out, err = run("export", run_folder, "-o", tmp_path / "explained.bundle", "--explain")
    assert code == 0, err
    assert "layer2" in out
    assert "as written" in out
    assert "of these, the memory" in out


def test_version_and_help(run: Run) -> None:
    assert run("--version")[:2] == (0, "0.1.0\n")
    assert "benchmark" in run("--help")[1]
    assert run("nonsense")[0] == 2


def corrupt(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.png").write_bytes(b"not an image %d" % i)
    return folder


def one_image(folder: Path, parts: Path) -> Path:
    folder.mkdir()
    shutil.copy(next((parts / "train" / "good").iterdir()), folder)
    return folder


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda tmp, parts: tmp / "absent", 3, "absent"),
        (lambda tmp, parts: corrupt(tmp / "empty", 0), 3, "no image"),
        (lambda tmp, parts: one_image(tmp / "one", parts), 3, "at least 2"),
        (lambda tmp, parts: corrupt(tmp / "corrupt", 4), 3, "can't be used"),
        (lambda tmp, parts: shutil.copytree(parts / "test", tmp / "bad" / "test").parent, 3, "good"),
    ],
    ids=["missing folder", "empty folder", "one image", "corrupt images", "no good images"],
)
def test_images_that_can_not_train(
    run: Run, parts: Path, tmp_path: Path, make: Callable[[Path, Path], Path], code: int, message: str
) -> None:
    found, out, err = run(*TRAIN, "--data", make(tmp_path, parts), "-o", tmp_path / "run")
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "run" / "model.json").exists()


def test_one_corrupt_image_among_many_is_left_out_and_named(run: Run, parts: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    shutil.copytree(parts / "train" / "good", good)
    (good / "broken.png").write_bytes(b"not an image")
    result = run(*TRAIN, "--good", good, "--alpha", "0.3", "-o", tmp_path / "run", "--json")
    assert result[0] == 0 or "broken.png" in result[2]  # 1 of 21 is about the share that is fatal, on either side
    assert "broken.png" in result[2]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--layers", "layer9"), 2, "no layer 'layer9'"),
        (("--backbone", "resnet19", "--layers", "layer2"), 2, "unknown backbone"),
        (("--size", "big"), 2, "expected a size"),
        (("--layers", "layer2,"), 2, "commas"),
        (("--recipe", "secret"), 2, "recipe"),
        (("--alpha", "2"), 2, "alpha"),
        (("--device", "cuda"), 2, "CUDA"),
        (("--device", "gpu"), 2, "device must be cpu"),
        (("--seed", "-1"), 2, "seed must be at least 0"),
        (("--weights", "absent.pth"), 2, "exclude each other"),
    ],
)
def test_options_that_can_not_work(
    run: Run, parts: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    found, _, err = run(*TRAIN, "--data", parts, "-o", tmp_path / "run", *words)
    assert found == code
    assert message in err.splitlines()[-1]


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


def test_a_run_that_is_none(run: Run, tmp_path: Path) -> None:
    assert run("export", tmp_path / "absent")[0] == 4
    assert "interrupted" in run("export", tmp_path)[2]


def test_evaluate_needs_test_images(run: Run, run_folder: Path, parts: Path) -> None:
    code, _, err = run("evaluate", run_folder, "--data", parts / "train" / "good")
    assert code == 3
    assert "no labelled test images" in err


def test_options_that_would_be_ignored_are_refused(run: Run, run_folder: Path, parts: Path) -> None:
    for words in (
        ("evaluate", run_folder, "--data", parts, "--precision", "fp16"),
        ("export", run_folder, "--int8", "x"),
    ):
        assert run(*words)[0] == 2
    code, _, err = run("export", run_folder, "--explain", "--json")
    assert (code, "pass one of them" in err) == (2, True)


def test_a_bundle_for_camera_frames_is_not_evaluated_on_model_frames(
    run: Run, run_folder: Path, parts: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "camera.bundle"
    assert output_of(run("export", run_folder, "-o", bundle, "--frame", "160x90", "--json"))["bundle"] == str(bundle)
    assert output_of(run("verify", bundle, "--json"))["passed"] is True
    code, _, err = run("evaluate", bundle, "--data", parts)
    assert (code, "whole camera frames" in err) == (2, True)


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


@pytest.mark.parametrize("memory", [0, 7])
def test_the_memory_is_as_large_as_was_asked_for(run: Run, parts: Path, tmp_path: Path, memory: int) -> None:
    code, _, err = run(*TRAIN, "--data", parts, "--alpha", "0.3", "--memory", str(memory), "-o", tmp_path / "run")
    assert code == 0, err
    config = json.loads((tmp_path / "run" / "model.json").read_text())["model"]
    assert config["memory_size"] == memory


def test_the_papers_recipe_has_no_memory(run: Run, parts: Path, tmp_path: Path) -> None:
    code, _, err = run(*TRAIN, "--data", parts, "--recipe", "paper", "--memory", "7", "-o", tmp_path / "run")
    assert code == 2
    assert "leave --memory out" in err


def test_a_sweep_within_a_time_budget(run: Run, parts: Path, tmp_path: Path) -> None:
    options = ("--seeds", "1", "--budget", "1s", "--alpha", "0.3")
    code, _, err = run("sweep", *TRAIN[1:-2], *options, "--data", parts, "-o", tmp_path / "sweep")
    assert code == 0, err
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "sweep").rglob("training.json"))
    assert record["train"]["budget_s"] == 1
    assert record["ended"] == "the time budget was over"
