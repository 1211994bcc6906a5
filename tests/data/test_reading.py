from __future__ import annotations

import os
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simplenet_edge.data.layouts import Sample, load_dataset
from simplenet_edge.data.reading import Split, check_bit_depth, fingerprint, read_frames, read_sample_mask, split_good
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import InputSpec

SPEC = InputSpec(8, 8)


def put(path: Path, seed: int | None = None, size_hw: tuple[int, int] = (12, 10)) -> Path:
    """A PNG of noise; without a seed, its own by its name and folders, so that no two files are copies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed if seed is not None else list(os.fsencode("/".join(path.parts[-3:]))))
    _, data = cv2.imencode(".png", rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8))
    path.write_bytes(data.tobytes())
    return path


def put_mask(path: Path, size_hw: tuple[int, int] = (12, 10)) -> Path:
    """A mask whose upper half is defective."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size_hw, np.uint8)
    mask[: size_hw[0] // 2] = 255
    path.write_bytes(cv2.imencode(path.suffix, mask)[1].tobytes())
    return path


def names(samples: Sequence[Sample]) -> list[str]:
    return [sample.name for sample in samples]


# --- split


def good_samples(folder: Path, seeds: Sequence[int]) -> list[Sample]:
    return [Sample(put(folder / f"{index:03}.png", seed=seed)) for index, seed in enumerate(seeds)]


@given(
    seeds=st.lists(st.integers(0, 6), min_size=2, max_size=14).filter(lambda seeds: len(set(seeds)) > 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_split_keeps_all_and_never_separates_copies(seeds: list[int], share: float, seed: int, tmp_path: Path) -> None:
    samples = good_samples(tmp_path, seeds)
    split = split_good(samples, share, seed)
    assert split.train
    assert split.calibration
    assert sorted(names(split.train) + names(split.calibration)) == names(samples)
    assert names(split.train) == sorted(names(split.train))
    assert names(split.calibration) == sorted(names(split.calibration))
    by_name = dict(zip(names(samples), seeds, strict=True))
    train, calibration = ({by_name[name] for name in names(side)} for side in (split.train, split.calibration))
    assert train.isdisjoint(calibration)
    smallest_group = min(Counter(seeds).values())
    assert len(split.calibration) <= max(round(share * len(seeds)), smallest_group)
    assert split_good(samples, share, seed) == split


def test_split_sizes_and_seeds(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(50))
    splits = [split_good(samples, 0.2, seed) for seed in range(4)]
    assert all((len(split.train), len(split.calibration)) == (40, 10) for split in splits)
    assert len({split.calibration for split in splits}) == 4


def test_split_does_not_depend_on_names_or_order(tmp_path: Path) -> None:
    def contents(split: Split) -> set[bytes]:
        return {sample.path.read_bytes() for sample in split.calibration}

    first = good_samples(tmp_path / "one", range(20))
    second = good_samples(tmp_path / "two", range(19, -1, -1))
    assert contents(split_good(first)) == contents(split_good(second))


def test_one_large_group_of_copies_stays_in_training(tmp_path: Path) -> None:
    split = split_good(good_samples(tmp_path, [0] * 30 + [1, 2, 3]), 0.3)
    assert names(split.calibration) == ["030.png", "031.png", "032.png"]


@pytest.mark.parametrize(
    ("seeds", "complaint"),
    [([], "found 0"), ([1], "found 1"), ([1, 1, 1], "found 3 copies of one")],
)
def test_too_few_different_images(seeds: list[int], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"at least 2 .* 100 .*{complaint}"):
        split_good(good_samples(tmp_path, seeds))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_share_outside_its_range(share: float) -> None:
    with pytest.raises(ConfigError, match="calibration_share"):
        split_good([], share)


def test_split_of_a_file_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: can't be read"):
        split_good([Sample(put(tmp_path / "here.png")), Sample(tmp_path / "gone.png")])


# --- reading


def corrupt(samples: Sequence[Sample], positions: Sequence[int]) -> None:
    for position in positions:
        samples[position].path.write_bytes(b"not an image")


def test_frames_come_in_order_and_in_size(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(5))
    reader = read_frames(samples, SPEC)
    for _ in range(2):  # a second pass starts anew
        read = list(reader)
        assert [one.sample for one in read] == samples
        assert all(one.frame.shape == (8, 8, 3) and one.frame.dtype == np.uint8 for one in read)
        assert reader.corrupt == []


def test_a_few_corrupt_files_are_left_out_and_listed(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(20))
    corrupt(samples, [3])
    reader = read_frames(samples, SPEC, max_corrupt_share=0.05)
    for _ in range(2):
        assert [read.sample for read in reader] == samples[:3] + samples[4:]
        assert [path for path, _ in reader.corrupt] == [samples[3].path]
        assert "003.png" in reader.corrupt[0][1]


def test_too_many_corrupt_files_are_an_error_that_lists_them(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(20))
    corrupt(samples, range(2, 12))
    reader = read_frames(samples, SPEC, max_corrupt_share=0.3)
    with pytest.raises(DataError) as caught:
        list(reader)
    message = str(caught.value)
    assert message.startswith("7 of the first 9 images (of 20) can't be used, expected at most 30% of them: ")
    assert "002.png" in message
    assert "006.png" in message
    assert message.endswith("and 2 more")
    assert "007.png" not in message
    assert len(reader.corrupt) == 7


@pytest.mark.parametrize(
    ("n", "n_corrupt", "share", "fatal"),
    [
        (20, 1, 0.05, False),  # exactly the share
        (19, 1, 0.05, True),
        (100, 29, 0.29, False),  # 0.29 * 100 is below 29 in floating point
        (3, 1, 0.0, True),
        (3, 3, 1.0, True),  # all corrupt
        (3, 2, 1.0, False),
    ],
)
def test_where_the_share_ends(n: int, n_corrupt: int, share: float, fatal: bool, tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(n))
    corrupt(samples, range(n_corrupt))
    reader = read_frames(samples, SPEC, share)
    if fatal:
        with pytest.raises(DataError):
            list(reader)
    else:
        assert len(list(reader)) == n - n_corrupt


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_corrupt_share_outside_its_range(share: float) -> None:
    with pytest.raises(ConfigError, match="max_corrupt_share"):
        read_frames([], SPEC, share)


def test_no_samples_give_no_frames() -> None:
    assert list(read_frames([], SPEC)) == []


def test_memory_stays_flat(tmp_path: Path) -> None:
    large = put(tmp_path / "large.png", size_hw=(256, 256))
    reader = read_frames([Sample(large)] * 40, InputSpec(256, 256))
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader) == 40
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 256 * 256 * 3


# --- masks


def test_mask_of_a_sample(tmp_path: Path) -> None:
    image, mask = put(tmp_path / "a.png", size_hw=(32, 20)), put_mask(tmp_path / "a_mask.png", size_hw=(32, 20))
    moved = read_sample_mask(Sample(image, "dent", mask), SPEC, (32, 20))
    assert moved is not None
    assert moved.dtype == np.bool_
    assert moved[:4].all()
    assert not moved[4:].any()
    good = read_sample_mask(Sample(image), SPEC, (32, 20))
    assert good is not None
    assert good.shape == (8, 8)
    assert not good.any()
    assert read_sample_mask(Sample(image, "dent"), SPEC, (32, 20)) is None


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    image, mask = put(tmp_path / "a.png", size_hw=(32, 20)), put_mask(tmp_path / "a_mask.png", size_hw=(20, 32))
    with pytest.raises(DataError, match=r"a_mask\.png: expected .* 32x20, found 20x32"):
        read_sample_mask(Sample(image, "dent", mask), SPEC, (32, 20))


def test_mask_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    image = put(tmp_path / "a.png")
    (tmp_path / "m.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"m\.png"):
        read_sample_mask(Sample(image, "dent", tmp_path / "m.png"), SPEC, (32, 20))


# --- fingerprint


def test_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    samples = good_samples(tmp_path / "one", range(4))
    first = fingerprint(samples)
    assert len(first) == 64
    assert fingerprint(samples[::-1]) == first
    assert fingerprint(good_samples(tmp_path / "elsewhere", range(4))) == first
    assert fingerprint(samples[:3]) != first
    assert fingerprint([*samples[:3], Sample(samples[3].path, name="other.png")]) != first
    swapped = [Sample(a.path, name=b.name) for a, b in zip(samples, samples[::-1], strict=True)]
    assert fingerprint(swapped) != first
    put(samples[0].path, seed=99)
    assert fingerprint(samples) != first


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_fingerprint_of_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    put(tmp_path / os.fsdecode(b"caf\xe9.png"))
    assert len(fingerprint(load_dataset(tmp_path).train)) == 64


# --- real data


def test_magnetic_tile_splits(shared: Path) -> None:
    split = split_good(load_dataset(shared / "data" / "magnetic_tile").train)
    assert (len(split.train), len(split.calibration)) == (609, 152)


@pytest.mark.slow
def test_every_magnetic_tile_image_and_mask_is_read(shared: Path) -> None:
    dataset = load_dataset(shared / "data" / "magnetic_tile")
    spec = InputSpec(64, 64, "center-crop", 72)
    reader = read_frames([*dataset.train, *dataset.test], spec, max_corrupt_share=0.0)
    assert sum(read.frame.shape == (64, 64, 3) for read in reader) == 761 + 583
    whole = InputSpec(256, 256)
    masks = [read_sample_mask(read.sample, whole, read.image_hw) for read in read_frames(dataset.test, whole)]
    defective = [mask for mask, sample in zip(masks, dataset.test, strict=True) if sample.defect is not None]
    assert sum(mask is not None and bool(mask.any()) for mask in defective) == 388  # 4 masks are blank as published


# --- bit depth


def put_deep(path: Path, largest: int) -> Sample:
    """A 16-bit image of values up to `largest`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.linspace(0, largest, 120).astype(np.uint16).reshape(12, 10))
    return Sample(path, None, None, path.name)


@pytest.mark.parametrize(
    ("largest", "bit_depth", "advice"),
    [(255, 16, 8), (1023, 16, 10), (4095, 16, 12), (200, 12, 8), (0, 16, 8)],
)
def test_16_bit_images_that_leave_their_upper_bits_unused_are_refused(
    largest: int, bit_depth: int, advice: int, tmp_path: Path
) -> None:
    samples = [put_deep(tmp_path / f"{i}.png", largest) for i in range(3)]
    spec = InputSpec(8, 8, bit_depth=bit_depth)
    with pytest.raises(DataError, match=rf"found values up to {largest} in 3 images.*--bit-depth {advice}$"):
        check_bit_depth(samples, spec)
    check_bit_depth([*samples, put_deep(tmp_path / "bright.tif", 1 << (bit_depth - 4))], spec)


def test_8_bit_images_and_files_that_are_none_have_no_bit_depth(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    check_bit_depth([Sample(tmp_path / "text.png", None, None, "text.png")], InputSpec(8, 8))
    check_bit_depth(good_samples(tmp_path / "good", [1, 2]), InputSpec(8, 8))


def test_12_bits_in_16_come_out_as_8_bits_do(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint16)
    for name, image in (("8.png", grey.astype(np.uint8)), ("12.png", grey << 4), ("12.tif", grey << 4 | 15)):
        cv2.imwrite(str(tmp_path / name), image)
    spec = InputSpec(8, 8, bit_depth=12)
    samples = [Sample(tmp_path / name, None, None, name) for name in ("8.png", "12.png", "12.tif")]
    first, *others = (read.frame for read in read_frames(samples, spec))
    assert all(np.array_equal(frame, first) for frame in others)


# --- copies by their pixels


def put_as(path: Path, image: np.ndarray, *parameters: int) -> Sample:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image, parameters)[1].tobytes())
    return Sample(path)


def same_pixels(folder: Path) -> list[Sample]:
    """One grey image in files of which no two have the same bytes."""
    grey = np.random.default_rng(1).integers(0, 255, (12, 10), np.uint8)
    files = [
        put_as(folder / "a0.png", grey, cv2.IMWRITE_PNG_COMPRESSION, 0),
        put_as(folder / "a9.png", grey, cv2.IMWRITE_PNG_COMPRESSION, 9),
        put_as(folder / "a.bmp", grey),
        put_as(folder / "a.tif", np.repeat(grey[:, :, None], 3, axis=2)),
        put_as(folder / "alpha.png", np.dstack([grey, grey, grey, np.full_like(grey, 255)])),
        put_as(folder / "a.pgm", grey),
    ]
    assert len({file.path.read_bytes() for file in files}) == len(files)
    return files


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_copies_at_another_compression_stay_on_one_side(share: float, tmp_path: Path) -> None:
    copies = same_pixels(tmp_path)
    samples = [*copies, *good_samples(tmp_path / "others", range(10))]
    for seed in range(5):
        split = split_good(samples, share, seed)
        sides = {sample in split.calibration for sample in copies}
        assert len(sides) == 1


def test_one_image_in_many_files_is_one_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 6 copies of one"):
        split_good(same_pixels(tmp_path))


def test_images_that_differ_in_their_lower_bits_are_no_copies(tmp_path: Path) -> None:
    deep = np.full((12, 10), 1000, np.uint16)
    assert len(split_good([put_as(tmp_path / "a.png", deep), put_as(tmp_path / "b.png", deep + 1)]).calibration) == 1


def test_copies_are_not_tested_on_in_plain_folders(tmp_path: Path) -> None:
    for number in range(10):
        image = np.random.default_rng(number).integers(0, 255, (12, 10), np.uint8)
        put_as(tmp_path / f"ok/{number}.png", image)
        put_as(tmp_path / f"ok/{number}.bmp", image)
    put(tmp_path / "ng/0.png")
    dataset = load_dataset(good=tmp_path / "ok", defect=tmp_path / "ng")
    train, test = ({sample.path.stem for sample in side} for side in (dataset.train, dataset.test[1:]))
    assert test
    assert train.isdisjoint(test)


# --- masks of several files, or with smeared edges


def test_masks_of_one_image_are_united(tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", size_hw=(8, 8))
    halves = []
    for name, rows in (("0.png", slice(0, 2)), ("1.png", slice(6, 8))):
        mask = np.zeros((8, 8), np.uint8)
        mask[rows] = 255
        halves.append(put_as(tmp_path / name, mask).path)
    found = read_sample_mask(Sample(image, "dent", halves[0], "", (halves[1],)), SPEC, (8, 8))
    assert found is not None
    assert found.all(axis=1).tolist() == [True, True, False, False, False, False, True, True]
    wrong = put_mask(tmp_path / "2.png", size_hw=(9, 8))
    with pytest.raises(DataError, match=r"2\.png: expected a mask of its image's size"):
        read_sample_mask(Sample(image, "dent", halves[0], "", (wrong,)), SPEC, (8, 8))


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_smeared_edges_of_a_mask_don_t_count(ending: str, tmp_path: Path) -> None:
    image = put(tmp_path / "a.png", size_hw=(64, 64))
    mask = np.zeros((64, 64), np.uint8)
    mask[20:41, 13:30] = 255
    path = tmp_path / f"m{ending}"
    put_as(path, mask, cv2.IMWRITE_JPEG_QUALITY if ending == ".jpg" else cv2.IMWRITE_WEBP_QUALITY, 60)
    smeared = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert smeared is not None
    assert (smeared > 0).sum() > 1.05 * (mask > 0).sum()
    found = read_sample_mask(Sample(image, "dent", path), InputSpec(64, 64), (64, 64))
    assert found is not None
    assert np.array_equal(found, mask > 0)
