from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.synthetic.flange import DEFECTS, render_part, write_demo_dataset

SIZE = 320
SMALL = {"n_train": 3, "n_test_good": 2, "n_defect_per_class": 2, "size": 96}


def contents(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "parts"
    write_demo_dataset(root, **SMALL)
    return root


def test_a_part_looks_like_metal_on_a_dark_belt(rng: np.random.Generator) -> None:
    image = render_part(rng)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    y, x = np.indices((SIZE, SIZE)) - SIZE / 2
    radius = np.hypot(x, y) / SIZE
    flange, bore, belt = image[(radius > 0.23) & (radius < 0.27)], image[radius < 0.08], image[radius > 0.46]
    assert 80 < flange.mean() < 200
    assert bore.mean() < 30
    assert belt.mean() < 50
    assert flange.max() < 255  # not blown out


def test_good_parts_differ_a_little() -> None:
    first, second = (render_part(np.random.default_rng(seed)).astype(np.float32) for seed in (1, 2))
    difference = np.abs(first - second)
    assert (difference > 0).mean() > 0.5
    assert difference.mean() < 15
    assert 0.9 < first.mean() / second.mean() < 1.1


@pytest.mark.parametrize("size", [64, 101, 640])  # the smallest, an odd one, a large one
@pytest.mark.parametrize("name", DEFECTS)
def test_any_size_gives_a_picture_and_a_mask(name: str, size: int, rng: np.random.Generator) -> None:
    image, mask = DEFECTS[name](rng, size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)
    assert mask.dtype == np.bool_
    assert mask.any()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_changes_the_metal_inside_its_mask_and_nothing_else(name: str, seed: int) -> None:
    image, mask = DEFECTS[name](np.random.default_rng(seed), SIZE)
    good = render_part(np.random.default_rng(seed), SIZE)
    change = np.abs(image.astype(np.float32) - good).max(axis=2)
    assert 40 <= mask.sum() <= 0.05 * mask.size  # small, yet there
    assert (change[~mask] == 0).all()
    assert (change[mask] > 0).mean() > 0.9  # noise and rounding make a few pixels agree
    assert change[mask].mean() > 4  # about twice the noise
    y, x = np.nonzero(mask)
    radius = np.hypot(x - SIZE / 2, y - SIZE / 2) / SIZE
    assert radius.min() > 0.09
    assert radius.max() < 0.44
    # Bolt holes and belt are darker than any metal.
    assert cv2.GaussianBlur(good, (3, 3), 0)[mask].mean(axis=1).min() > 35


def test_stains_are_brown_and_darker() -> None:
    for seed in range(4):
        image, mask = DEFECTS["stain"](np.random.default_rng(seed), SIZE)
        good = render_part(np.random.default_rng(seed), SIZE)
        blue, green, red = image[mask].mean(axis=0) / good[mask].mean(axis=0)
        assert blue < green < red < 0.95


def test_dents_have_a_lit_and_a_shaded_side() -> None:
    for seed in range(4):
        image, mask = DEFECTS["dent"](np.random.default_rng(seed), SIZE)
        change = image.astype(np.float32) - render_part(np.random.default_rng(seed), SIZE)
        assert change[mask].max() > 15
        assert change[mask].min() < -15


def test_scratches_are_thin_and_long() -> None:
    for seed in range(4):
        _, mask = DEFECTS["scratch"](np.random.default_rng(seed), SIZE)
        thickness = 2 * cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).max()
        y, x = np.nonzero(mask)
        assert np.hypot(np.ptp(x), np.ptp(y)) > 4 * thickness


def test_the_layout_is_that_of_mvtec_ad(dataset: Path) -> None:
    expected = {f"train/good/{i:03d}.png" for i in range(3)} | {f"test/good/{i:03d}.png" for i in range(2)}
    for name in ("scratch", "dent", "stain"):
        expected |= {f"test/{name}/{i:03d}.png" for i in range(2)}
        expected |= {f"ground_truth/{name}/{i:03d}_mask.png" for i in range(2)}
    assert set(contents(dataset)) == expected


def test_files_hold_what_the_renderer_gives(dataset: Path) -> None:
    for path in dataset.glob("t*/*/*.png"):
        assert read_image(path).shape == (96, 96, 3)
    for path in dataset.glob("ground_truth/*/*.png"):
        mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) == {0, 255}


def test_no_picture_is_there_twice(dataset: Path) -> None:
    pictures = [digest for name, digest in contents(dataset).items() if name.startswith("t")]
    assert len(set(pictures)) == len(pictures) == 11


def test_the_same_seed_gives_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / "again", **SMALL)
    assert contents(tmp_path / "again") == contents(dataset)


def test_another_seed_gives_other_pictures(dataset: Path, tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / "other", **SMALL, seed=1)
    first, second = contents(dataset), contents(tmp_path / "other")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_a_count_changes_no_other_picture(dataset: Path, tmp_path: Path) -> None:
    write_demo_dataset(tmp_path / "fewer", n_train=1, n_test_good=0, n_defect_per_class=1, size=96)
    fewer = contents(tmp_path / "fewer")
    assert len(fewer) == 7
    assert fewer.items() <= contents(dataset).items()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_demo_dataset(tmp_path, n_train=1, n_test_good=0, n_defect_per_class=0, size=64)
    assert set(contents(tmp_path)) == {"train/good/000.png"}


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="isn't an empty folder; name another folder"):
        write_demo_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(DataError, match="isn't an empty folder"):
        write_demo_dataset(tmp_path / "file", **SMALL)
    with pytest.raises(DataError, match="can't be written"):
        write_demo_dataset(tmp_path / "file" / "below", **SMALL)
    assert (tmp_path / "file").read_text() == "keep me"


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (OSError(28, "No space left on device"), DataError),  # the disk fills up
        (KeyboardInterrupt(), KeyboardInterrupt),  # Ctrl-C
    ],
)
def test_a_failure_half_way_leaves_nothing(
    failure: BaseException, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rng: np.random.Generator, size: int) -> None:
        raise failure

    monkeypatch.setitem(DEFECTS, "stain", fail)  # the last class: the others are on the disk by then
    with pytest.raises(seen):
        write_demo_dataset(tmp_path / "parts", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [{"n_train": 0}, {"n_test_good": -1}, {"n_defect_per_class": -1}, {"seed": -1}, {"size": 63}, {"size": 1025}],
)
def test_options_that_cannot_work_are_refused(option: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_demo_dataset(tmp_path / "parts", **{**SMALL, **option})
    assert list(tmp_path.iterdir()) == []
