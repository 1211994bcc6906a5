from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simplenet_edge.data.augment import AugmentConfig
from simplenet_edge.data.layouts import Dataset, Sample, load_dataset
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import ResizeRule
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.training.trainer import train
from simplenet_edge.workflows.sweep import SweepCluster, _run_on_node, _Task, find_categories, sweep
from simplenet_edge.workflows.sweep_results import PAPER_LABEL

pytestmark = pytest.mark.slow


def small(
    seed: int, resize: ResizeRule | None = None, augment: AugmentConfig | None = None, meta_epochs: int = 1
) -> tuple[SimpleNet, TrainConfig]:
    model = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64), resize=resize, seed=seed)
    config = TrainConfig(
        meta_epochs=meta_epochs,
        gan_epochs=1,
        steps_per_epoch=3,
        batch_patches=128,
        alpha=0.3,
        seed=seed,
        augment=augment,
    )
    return model, config


def of_any(dataset: Dataset, seed: int) -> tuple[SimpleNet, TrainConfig]:
    return small(seed)


@pytest.fixture
def categories(parts: Path, tmp_path: Path) -> Path:
    """Two datasets in one folder, beside something that is none."""
    root = tmp_path / "categories"
    for name in ("cable", "bolt"):
        shutil.copytree(parts, root / name)
    (root / "readme").mkdir()
    return root


def test_categories_are_the_subfolders_or_the_folder_itself(categories: Path, parts: Path) -> None:
    assert [dataset.name for dataset in find_categories(categories)] == ["bolt", "cable"]
    assert [dataset.name for dataset in find_categories(parts)] == [parts.name]
    with pytest.raises(DataError, match="found neither"):
        find_categories(categories / "readme")


def test_one_table_and_nothing_done_twice(categories: Path, tmp_path: Path) -> None:
    datasets, folder = find_categories(categories), tmp_path / "sweep"
    result = sweep(datasets, of_any, folder, seeds=2)
    first = result.categories[0]
    scores = []
    for seed in (0, 1):
        run = TrainingRun.load(folder / "bolt" / f"seed-{seed}")
        measured = evaluate(run.model, datasets[0].test, run.model.input_spec, run.operating_point)
        assert first.seeds[seed].figures["image_auroc"] == measured.metrics.image_auroc
        assert first.seeds[seed].figures["recall"] == measured.verdicts.recall
        assert measured.metrics.image_auroc is not None
        scores.append(measured.metrics.image_auroc)
        assert (folder / "bolt" / f"seed-{seed}" / "evaluation" / "report.html").is_file()
    mean_std = first.over_seeds("image_auroc")
    assert mean_std is not None
    assert mean_std == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))

    values = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert values == result.to_dict()
    assert "best_on_test" not in json.dumps(values)
    markdown = (folder / "sweep.md").read_text(encoding="utf-8")
    assert markdown.count("\n| bolt | ") == markdown.count("\n| cable | ") == markdown.count("\n| mean | ") == 1
    assert f"| bolt | {mean_std} |" in markdown

    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.parent != folder}
    assert sweep(datasets, of_any, folder, seeds=2) == result
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_other_test_images_are_measured_anew(parts: Path, tmp_path: Path) -> None:
    root, folder = shutil.copytree(parts, tmp_path / "parts"), tmp_path / "sweep"
    before = sweep(find_categories(root), of_any, folder, seeds=1).categories[0].seeds[0]
    spoiled = next(iter(sorted((root / "test" / "good").iterdir())))
    spoiled.unlink()
    after = sweep(find_categories(root), of_any, folder, seeds=1).categories[0].seeds[0]
    assert after.seconds == before.seconds  # not trained again
    n_images = len(json.loads((folder / "parts/seed-0/evaluation/evaluation.json").read_text())["images"])
    assert n_images == len(find_categories(root)[0].test)


def test_the_papers_protocol_takes_the_best_meta_epoch_and_says_so(parts: Path, tmp_path: Path) -> None:
    dataset, folder = load_dataset(parts), tmp_path / "sweep"
    result = sweep([dataset], lambda _, seed: small(seed, meta_epochs=3), folder, seeds=1, protocol="paper")
    expected: dict[int, tuple[Any, ...]] = {}

    def watch(model: SimpleNet, meta_epoch: int) -> None:
        assert not model.training
        point = TrainingRun.load(folder / parts.name / "seed-0-paper").operating_point
        metrics = evaluate(model, dataset.test, model.input_spec, point).metrics
        expected[meta_epoch] = (metrics.image_auroc, metrics.pixel_auroc, metrics.aupro)

    model, config = small(0, meta_epochs=3)
    train(model, dataset.train, config, tmp_path / "again", after_meta_epoch=watch)
    seed = result.categories[0].seeds[0]
    best = max(expected, key=lambda meta_epoch: expected[meta_epoch][0])
    assert seed.best_meta_epoch == best
    assert seed.best_on_test is not None
    assert tuple(seed.best_on_test[f] for f in ("image_auroc", "pixel_auroc", "aupro")) == expected[best]
    assert seed.figures["image_auroc"] == expected[3][0]  # the last model's are there too, under their own name

    table, honest = result.tables()
    assert table.title.endswith(PAPER_LABEL)
    assert table.columns == ("category", "image AUROC", "pixel AUROC", "AUPRO")
    assert "no test image used" in honest.title
    assert PAPER_LABEL in (folder / "sweep.md").read_text(encoding="utf-8")
    assert json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["best_on_test"] == PAPER_LABEL


def test_a_watched_training_is_bit_equal_and_so_is_one_that_was_cut_off(parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset(parts)
    model, config = small(0, meta_epochs=3)

    def prepare(dataset: Dataset, seed: int) -> tuple[SimpleNet, TrainConfig]:
        return small(seed, meta_epochs=3)

    plain = train(model, dataset.train, config, tmp_path / "plain")

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "training" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep([dataset], prepare, tmp_path / "sweep", seeds=1, protocol="paper", progress=cut)
    result = sweep([dataset], prepare, tmp_path / "sweep", seeds=1, protocol="paper")
    unbroken = sweep([dataset], prepare, tmp_path / "unbroken", seeds=1, protocol="paper")
    assert result.categories[0].seeds[0].figures == unbroken.categories[0].seeds[0].figures
    assert result.categories[0].seeds[0].best_on_test == unbroken.categories[0].seeds[0].best_on_test
    run = TrainingRun.load(tmp_path / "sweep" / dataset.name / "seed-0-paper")
    assert run.calibration_scores == plain.calibration_scores
    assert run.operating_point == plain.operating_point


def test_a_curve_with_a_hole_is_not_guessed(parts: Path, tmp_path: Path) -> None:
    dataset, folder = load_dataset(parts), tmp_path / "sweep"
    sweep([dataset], of_any, folder, seeds=1, protocol="paper")
    (folder / dataset.name / "seed-0-paper" / "test-curve.json").unlink()
    with pytest.raises(ConfigError, match="not every meta-epoch was measured"):
        sweep([dataset], of_any, folder, seeds=1, protocol="paper")


def test_what_cannot_be_swept_is_refused(parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset(parts)
    with pytest.raises(ConfigError, match="seeds must be at least 1"):
        sweep([dataset], of_any, tmp_path / "sweep", seeds=0)
    untested = load_dataset(parts / "train" / "good")
    with pytest.raises(DataError, match="no labelled test images"):
        sweep([untested], of_any, tmp_path / "sweep")
    sweep([dataset], of_any, tmp_path / "sweep", seeds=1)
    with pytest.raises(ConfigError, match="holds another run"):
        sweep([dataset], lambda _, seed: small(seed, meta_epochs=2), tmp_path / "sweep", seeds=1)
    assert not (tmp_path / "sweep" / untested.name).exists()


def test_pixel_threshold_letterbox_and_augmentation_reach_a_run(parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset(parts)
    model, config = small(0, resize="letterbox", augment=AugmentConfig(copies=2, rotate_degrees=5))
    train(model, dataset.train, config, tmp_path / "run")
    run = TrainingRun.load(tmp_path / "run")
    assert run.model.input_spec.resize == "letterbox"
    assert run.record.patches.images == 3 * len(run.record.split.train)
    assert run.record.train["augment"]["copies"] == 2
    point = run.operating_point
    assert point.pixel_threshold is not None
    assert point.pixel_threshold < point.threshold + 1  # of the same scale
    assert 3 * len(run.calibration_scores) == point.n_calibration


def test_a_run_that_fails_on_a_cluster_leaves_the_others_be(ray_here: None, categories: Path, tmp_path: Path) -> None:
    def prepare(dataset: Dataset, seed: int) -> tuple[SimpleNet, TrainConfig]:
        if (dataset.name, seed) == ("bolt", 1):
            raise ConfigError("a recipe that can't work")
        model = build_simplenet("resnet18", random_weights=True, size_hw=(64, 64), seed=seed)
        return model, TrainConfig(
            meta_epochs=1, gan_epochs=1, steps_per_epoch=3, batch_patches=128, alpha=0.3, seed=seed
        )

    folder, cluster = tmp_path / "sweep", SweepCluster("local")
    with pytest.raises(ConfigError, match=r"^bolt, seed 1: a recipe that can't work$"):
        sweep(find_categories(categories), prepare, folder, seeds=2, cluster=cluster)
    finished = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("measured.json"))
    assert finished == ["bolt/seed-0", "cable/seed-0", "cable/seed-1"]
    assert not (folder / "sweep.json").exists()


def test_what_a_cluster_cannot_do_is_said(ray_here: None, parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset(parts)
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        SweepCluster("local", threads=0)
    with pytest.raises(ConfigError, match="takes 64 processors and 0 GPUs, the cluster has 2"):
        sweep([dataset], of_any, tmp_path / "sweep", seeds=1, cluster=SweepCluster("local", threads=64))
    task = _Task(dataclasses.replace(dataset, test=(Sample(tmp_path / "gone.png"),)), tmp_path / "a/b", 0, "honest")
    with pytest.raises(DataError, match="a file system that all of them share"):
        _run_on_node(task, of_any, 1, str(tmp_path))
