"""`train`: images and options that can't work, and options that reach the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

from simplenet_edge.cli.console import ProgressLines
from tests.cli.conftest import TRAIN, Run, output_of

pytestmark = pytest.mark.slow


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


def test_progress_is_told_in_a_log(run: Run, parts: Path, tmp_path: Path) -> None:
    code, _, err = run(*TRAIN, "--data", parts, "--alpha", "0.3", "-o", tmp_path / "run")
    assert code == 0, err
    for stage in ("checking: 20/20", "features: ", "training: 4/4, loss "):
        assert stage in err


def test_what_is_odd_about_the_images_is_told(run: Run, parts: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    shutil.copytree(parts / "train" / "good", good)
    image = cv2.imread(str(next(good.iterdir())))
    assert image is not None
    cv2.imwrite(str(good / "copy.bmp"), image)
    cv2.imwrite(str(good / "flat.png"), np.full_like(image, 9))
    code, _, err = run(*TRAIN, "--good", good, "--alpha", "0.3", "-o", tmp_path / "run")
    assert code == 0, err
    assert "copies: 1 image with the same pixels" in err
    assert "flat: 1 image with one grey level everywhere: good/flat.png" in err


def test_the_parts_that_the_guarantee_rests_on_are_told(run: Run, parts: Path, tmp_path: Path) -> None:
    good = parts / "train" / "good"
    (tmp_path / "parts.csv").write_text(
        "\n".join(["file,part", *(f"{file.name},{i // 2}" for i, file in enumerate(sorted(good.iterdir())))])
    )
    words = ("--good", good, "--alpha", "0.1", "--augment", "0", "--group", tmp_path / "parts.csv")
    code, out, err = run(*TRAIN, *words, "-o", tmp_path / "run")
    assert code == 0, err
    assert "20 (10 parts), trained on and, by 5 more" in out
    assert "parts were few, so each of the 10 was judged by one of 5 models" in " ".join(err.split())
    _, out, _ = run(*TRAIN, *words[:-2], "-o", tmp_path / "alone", "--json")
    assert "n_parts" not in json.loads(out)["operating_point"]
    code, out, err = run("evaluate", tmp_path / "run", "--good", good, "--defect", parts / "test" / "scratch")
    assert code == 0, err
    assert "test images show parts that are in training too, such as good/" in err


@pytest.mark.parametrize(
    ("group", "code", "message"),
    [("parts", 2, "found 0 groups"), (r"part(\d+)", 2, "it is not in 20 of 20"), ("none.csv", 3, "no such file")],
)
def test_groups_that_can_not_be_told(
    run: Run, parts: Path, tmp_path: Path, group: str, code: int, message: str
) -> None:
    left, _, err = run(*TRAIN, "--data", parts, "--group", group, "-o", tmp_path / "run")
    assert (left, message in err) == (code, True), err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("levels", [(0,), (0, 50, 100)])
def test_images_that_teach_nothing_are_refused(run: Run, tmp_path: Path, levels: tuple[int, ...]) -> None:
    (tmp_path / "good").mkdir()
    for i in range(12):
        cv2.imwrite(str(tmp_path / "good" / f"{i}.png"), np.full((64 + i, 64, 3), levels[i % len(levels)], np.uint8))
    code, out, err = run(*TRAIN, "--data", tmp_path / "good", "-o", tmp_path / "run")
    assert (code, out) == (3, "")
    assert "found 12 of 12 flat" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.mark.parametrize(("size", "backbone", "least"), [("10", "resnet18", 32), ("20x256", "resnet18", 32)])
def test_inputs_of_too_few_patches_are_refused(
    run: Run, parts: Path, tmp_path: Path, size: str, backbone: str, least: int
) -> None:
    words = ("--backbone", backbone, "--random-weights", "--size", size)
    code, _, err = run("train", *words, "--data", parts, "-o", tmp_path / "run")
    assert code == 2
    assert f"pass --size {least} or more" in err.splitlines()[-1]
    enough = ("--backbone", backbone, "--random-weights", "--size", str(least), "--meta-epochs", "1", "--alpha", "0.3")
    assert run("train", *enough, "--data", parts, "-o", tmp_path / "run")[0] == 0


def test_weights_of_another_backbone_name_it(run: Run, parts: Path, tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "w.pth")
    code, _, err = run("train", "--weights", tmp_path / "w.pth", "--data", parts, "-o", tmp_path / "run")
    assert code == 4
    assert "pass --backbone mobilenet_v2" in err.splitlines()[-1]


def test_ctrl_c_in_training_names_resume(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: ProgressLines, loss: float) -> None:
        raise KeyboardInterrupt

    words = (*TRAIN, "--data", parts, "--alpha", "0.3", "-o", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(ProgressLines, "loss", stop)
        code, out, err = run(*words)
    assert (code, out) == (130, "")
    assert "the same command with --resume goes on" in err.splitlines()[-1]
    assert run(*words, "--resume")[0] == 0


def test_defective_parts_may_be_named_and_keep_some_good_ones_from_training(
    run: Run, parts: Path, tmp_path: Path
) -> None:
    shutil.copytree(parts / "test" / "scratch", tmp_path / "ng" / "scratch")
    words = ("--good", parts / "train" / "good", "--defect", tmp_path / "ng")
    code, _, err = run(*TRAIN, *words, "--alpha", "0.3", "-o", tmp_path / "run")
    assert code == 0, err
    split = json.loads((tmp_path / "run" / "training.json").read_text())["split"]
    evaluated = output_of(run("evaluate", tmp_path / "run", *words, "--json"))
    tested = {image["path"] for image in evaluated["images"]}
    assert tested.isdisjoint([*split["train"], *split["calibration"]])
