from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from datasets_figures import summary
from few_images import drawn
from runs import Rows, parser, training_options
from sets import SETS, ImageSet, limited

from simplenet_edge.data.samples import Dataset, Sample

PARTS = {f"{part}{picture}": part for part in "abcdef" for picture in range(4)}


@pytest.fixture
def images() -> ImageSet:
    """Six good parts in four pictures each, and a test of 3 good and 9 defective images."""
    test = [Sample(Path(f"test{i}"), "crack" if i >= 3 else None) for i in range(12)]
    return ImageSet(Dataset("drawn", tuple(Sample(Path(name)) for name in PARTS), tuple(test)), PARTS)


def _options(tmp_path: Path, *more: str) -> argparse.Namespace:
    folders = ["--shared", str(tmp_path), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "rows.json")]
    return parser(None, "rows", seeds=1).parse_args([*folders, *more])


def test_rows_are_kept_one_by_one_and_found_again(tmp_path: Path) -> None:
    rows = Rows(_options(tmp_path), "script", ("numpy",), alpha=0.01)
    rows.add(set="drawn", seed=0, image_auroc=0.9)
    assert json.loads((tmp_path / "rows.json").read_text())["rows"] == rows.rows
    again = Rows(_options(tmp_path), "script", ("numpy",), alpha=0.01)
    assert again.has(set="drawn", seed=0)
    assert not again.has(set="drawn", seed=1)
    assert [row["image_auroc"] for row in again.where(set="drawn")] == [0.9]


def test_rows_of_another_protocol_are_neither_mixed_nor_lost(tmp_path: Path) -> None:
    Rows(_options(tmp_path), "script", ("numpy",), alpha=0.01).add(set="drawn", seed=0)
    with pytest.raises(SystemExit, match="--fresh"):
        Rows(_options(tmp_path, "--images", "12"), "script", ("numpy",), alpha=0.01)
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 1
    model = tmp_path / "work" / "script" / "model"
    model.mkdir()
    assert Rows(_options(tmp_path, "--images", "12", "--fresh"), "script", ("numpy",), alpha=0.01).rows == []
    assert not model.exists()


def test_training_options_from_text() -> None:
    options = training_options(
        ["backbone=resnet18", 'layers=["layer2"]', "augment=2", "weights=a.pth", "rotate_degrees=1.5"], alpha=0.05
    )
    assert (options.backbone, options.layers, options.augment) == ("resnet18", ("layer2",), 2)
    assert (options.weights, options.rotate_degrees, options.alpha) == (Path("a.pth"), 1.5, 0.05)
    with pytest.raises(SystemExit, match="no such training options: backbon"):
        training_options(["backbon=resnet18"])


def test_a_quick_try_takes_some_of_each_kind(images: ImageSet) -> None:
    few = limited(images, 4).dataset
    assert [sample.name for sample in few.train] == ["a0", "c0", "d3", "f3"]
    assert [sample.defect for sample in few.test] == [None] * 3 + ["crack"] * 4
    assert limited(images, None) is images


def test_few_images_show_different_parts(images: ImageSet) -> None:
    for seed in range(5):
        assert sorted(PARTS[sample.name] for sample in drawn(images, 6, seed)) == sorted("abcdef")
    assert len({tuple(drawn(images, 3, seed)) for seed in range(5)}) > 1
    assert drawn(images, 3, 0) == drawn(images, 3, 0)
    assert len(drawn(images, 7, 0)) == 6  # no more parts
    unknown = ImageSet(images.dataset)
    assert len({sample.name for sample in drawn(unknown, 20, 0)}) == 20


def test_summary_compares_no_means_over_different_sets() -> None:
    rows = [
        {"set": "tiles", "method": "ours", "finished": True, "image_auroc": 0.9, "aupro": 0.7, "seconds": 50.0},
        {"set": "tiles", "method": "ours", "finished": True, "image_auroc": 0.8, "aupro": 0.6, "seconds": 50.0},
        {"set": "solar", "method": "ours", "finished": True, "image_auroc": 0.65, "aupro": None, "seconds": 40.0},
        {"set": "tiles", "method": "padim", "finished": True, "image_auroc": 0.95, "aupro": 0.5, "seconds": 9.0},
        {"set": "solar", "method": "padim", "finished": False, "failure": "MemoryError: too large\nat line 1"},
    ]
    means, each = (part.splitlines()[2:] for part in summary(rows).split("\n\n"))
    assert means == ["| ours | 0.750 | 0.650 |", "| padim | - | 0.500 |"]
    assert each[0] == "| tiles | ours | 0.850 ± 0.071 | 0.650 ± 0.071 | - | - | - | 50 ± 0 | yes |"
    assert each[-1] == "| solar | padim | - | - | - | - | - | - | MemoryError: too large |"


def test_no_tile_is_on_both_sides(shared: Path, tmp_path: Path) -> None:
    tiles = SETS["tiles"](shared, tmp_path)
    train = {tiles.parts[sample.name] for sample in tiles.dataset.train}
    good = [sample for sample in tiles.dataset.test if sample.defect is None]
    assert (len(tiles.dataset.train), len(good), len(tiles.dataset.test)) == (638, 314, 314 + 392)
    assert train.isdisjoint(tiles.parts[sample.name] for sample in good)
    assert all(sample.mask_path for sample in tiles.dataset.test if sample.defect is not None)
    assert all(sample.path.is_file() for sample in [*tiles.dataset.train, *tiles.dataset.test])
