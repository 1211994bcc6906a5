"""What `check` says of a dataset: each case spoils one thing of a sound one."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.data.check import CheckReport, check_dataset
from simplenet_edge.data.layouts import load_dataset
from tests.data.test_near_duplicates import lit, texture

SIZE_HW = (48, 64)


def part(seed: int, level: float = 100.0) -> np.ndarray:
    """A part in a fixture: the same disc, with spots of its own."""
    rng = np.random.default_rng(seed)
    image = np.full(SIZE_HW, level, np.float64)
    cv2.circle(image, (32, 24), 18, level + 60, -1)
    for _ in range(6):
        cv2.circle(image, (int(rng.integers(64)), int(rng.integers(48))), 5, float(rng.uniform(40, 200)), -1)
    return np.clip(image + rng.normal(0, 2, SIZE_HW), 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray, *parameters: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image, parameters)[1].tobytes())
    return path


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIIHI", 8, 1, 274, 3, 1, orientation, 0, 0)[:-2]
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound dataset: 12 good parts to train on, 3 to test, 3 with a scratch and a mask."""
    root = tmp_path / "parts"
    for i in range(12):
        save(root / f"train/good/{i:02}.png", part(i))
    for i in range(3):
        save(root / f"test/good/{i}.png", part(100 + i))
        scratched = part(200 + i)
        scratched[20:24, 20:40] = 250
        save(root / f"test/scratch/{i}.png", scratched)
        mask = np.zeros(SIZE_HW, np.uint8)
        mask[20:24, 20:40] = 255
        save(root / f"ground_truth/scratch/{i}_mask.png", mask)
    return root


def test_parts_are_found_by_their_looks(tmp_path: Path, rng: np.random.Generator) -> None:
    for i in range(60):
        save(tmp_path / f"train/good/{i:02}.png", lit(texture(i // 3, 30), rng))
    for i in range(18, 22):
        save(tmp_path / f"test/good/{i}.png", lit(texture(i, 30), rng))
    train, test = (one for one in report_of(tmp_path).findings if one.kind == "parts")
    assert "60 images to train on show 20 parts" in train.text
    assert len(train.files) == 60
    assert "2 test images of parts that are trained on too" in test.text
    assert test.files == ("test/good/18.png", "test/good/19.png")


def report_of(root: Path, bit_depth: int = 16) -> CheckReport:
    return check_dataset(load_dataset(root), bit_depth)


def test_a_sound_dataset_has_no_findings(root: Path) -> None:
    report = report_of(root)
    assert report.findings == ()
    assert report.refusal is None
    assert [(group.name, group.n, group.sizes, group.kinds) for group in report.groups] == [
        ("train/good", 12, ("64x48",), ("PNG",)),
        ("test/good", 3, ("64x48",), ("PNG",)),
        ("test/scratch", 3, ("64x48",), ("PNG",)),
    ]
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["layout"] == "MVTec AD"
    assert values["images"] == {"train": 12, "test": 6}


def brighten(folder: Path) -> None:
    for path in folder.iterdir():
        save(path, part(int(path.stem) + 300, level=140))


def as_jpeg(folder: Path) -> None:
    for path in list(folder.iterdir()):
        image = cv2.imread(str(path))
        assert image is not None
        path.unlink()
        save(path.with_suffix(".jpg"), image)


SPOILT: dict[str, tuple[Callable[[Path], object], str, str, set[str]]] = {
    "damaged": (
        lambda root: (root / "test/good/0.png").write_bytes(b"not an image"),
        "damaged",
        "1 image that can't be used",
        {"test/good/0.png"},
    ),
    "copies": (
        lambda root: save(root / "train/good/copy.png", part(3), cv2.IMWRITE_PNG_COMPRESSION, 0),
        "copies",
        "1 image with the same pixels as another",
        {"train/good/03.png", "train/good/copy.png"},
    ),
    "saved again": (
        lambda root: save(root / "train/good/again.jpg", part(3), cv2.IMWRITE_JPEG_QUALITY, 70),
        "alike",
        "the same shot",
        {"train/good/03.png", "train/good/again.jpg"},
    ),
    "brightened": (
        lambda root: save(root / "train/good/again.png", np.clip(part(3) * 1.05, 0, 255).astype(np.uint8)),
        "alike",
        "train/good/03.png ~ train/good/again.png",
        {"train/good/03.png", "train/good/again.png"},
    ),
    "flat": (
        lambda root: save(root / "train/good/flat.png", np.full(SIZE_HW, 7, np.uint8)),
        "flat",
        "1 image with one grey level everywhere",
        {"train/good/flat.png"},
    ),
    "turned": (
        lambda root: (root / "train/good/turned.jpg").write_bytes(
            with_orientation(cv2.imencode(".jpg", part(50))[1].tobytes(), 6)
        ),
        "orientation",
        "1 image with an orientation flag",
        {"train/good/turned.jpg"},
    ),
    "deep": (
        lambda root: save(root / "train/good/deep.png", part(50).astype(np.uint16) << 8),
        "bit depth",
        "1 of 19 images of 16 bits",
        {"train/good/deep.png"},
    ),
    "colour": (
        lambda root: save(root / "train/good/colour.png", cv2.applyColorMap(part(50), cv2.COLORMAP_JET)),
        "colour",
        "18 images grey and 1 in colour",
        {"train/good/colour.png"},
    ),
    "sizes": (
        lambda root: save(root / "train/good/tall.png", cv2.resize(part(50), (48, 64))),
        "sizes",
        "2 sizes: 64x48 (18), 48x64 (1); width to height is 0.75 to 1.33",
        {"train/good/tall.png"},
    ),
    "leak": (
        lambda root: save(root / "test/good/leak.bmp", part(3)),
        "leak",
        "1 test image that are trained on too",
        {"test/good/leak.bmp"},
    ),
    "light": (lambda root: brighten(root / "test/good"), "light", "but of test/good", set()),
    "formats": (lambda root: as_jpeg(root / "test/good"), "formats", "train/good is PNG, but test/good JPEG", set()),
    "empty mask": (
        lambda root: save(root / "ground_truth/scratch/1_mask.png", np.zeros(SIZE_HW, np.uint8)),
        "masks",
        "1 mask that mark nothing",
        {"test/scratch/1.png"},
    ),
    "inverted mask": (
        lambda root: save(root / "ground_truth/scratch/1_mask.png", np.full(SIZE_HW, 255, np.uint8)),
        "masks",
        "more than half",
        {"test/scratch/1.png"},
    ),
    "mask of another size": (
        lambda root: save(root / "ground_truth/scratch/1_mask.png", np.full((9, 9), 255, np.uint8)),
        "masks",
        "expected a mask of its image's size, 48x64, found 9x9",
        {"test/scratch/1.png"},
    ),
    "no mask": (
        lambda root: (root / "ground_truth/scratch/1_mask.png").unlink(),
        "masks",
        "1 defective image without a mask",
        {"test/scratch/1.png"},
    ),
    "unused images": (
        lambda root: save(root / "extra/0.png", part(50)),
        "unused",
        "1 file not used, images in no folder of the layout",
        {"extra/0.png"},
    ),
    "other endings": (
        lambda root: (root / "train/good/0.raw").write_bytes(b"x"),
        "unused",
        "no images by their endings",
        {"train/good/0.raw"},
    ),
    "hidden": (
        lambda root: (root / "train/good/._0.png").write_bytes(b"x"),
        "unused",
        "hidden",
        {"train/good/._0.png"},
    ),
    "layout": (lambda root: (root / "train/odd").mkdir(), "layout", "only good is used, not odd", set()),
}


@pytest.mark.parametrize("case", SPOILT)
def test_each_oddity_is_found_and_its_files_are_named(case: str, root: Path) -> None:
    spoil, kind, words, files = SPOILT[case]
    spoil(root)
    report = report_of(root)
    assert report.refusal is None
    found = [finding for finding in report.findings if finding.kind == kind]
    assert len(found) == 1
    assert words in found[0].text
    assert set(found[0].files) == files
    implied = {"turned": {"sizes"}, "leak": {"copies", "formats"}}
    assert {finding.kind for finding in report.findings} - {kind} <= implied.get(case, set())


def test_a_mask_of_a_good_part_that_marks_something_is_odd(root: Path) -> None:
    save(root / "ground_truth/good/0_mask.png", np.zeros(SIZE_HW, np.uint8))
    assert report_of(root).findings == ()
    path = save(root / "ground_truth/good/1_mask.png", np.full(SIZE_HW, 255, np.uint8))
    (finding,) = report_of(root).findings
    assert (finding.kind, finding.files) == ("masks", (str(path),))


def keep(root: Path, count: int) -> None:
    for path in sorted((root / "train/good").iterdir())[count:]:
        path.unlink()


def fill(root: Path, image: Callable[[int], np.ndarray]) -> None:
    for i, path in enumerate(sorted((root / "train/good").iterdir())):
        save(path, image(i))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: keep(root, 1), "at least 2 different images"),
        (lambda root: fill(root, lambda i: part(1)), "found 12 copies of one"),
        (lambda root: fill(root, lambda i: np.full(SIZE_HW, i, np.uint8)), "found 12 of 12 flat"),
        (lambda root: fill(root, lambda i: part(1) if i == 0 else np.full(SIZE_HW, i, np.uint8)), "11 of 12 flat"),
        (lambda root: fill(root, lambda i: part(i).astype(np.uint16) << 4), "--bit-depth 12"),
        (lambda root: (root / "train/good/00.png").write_bytes(b"x"), "1 of the first 12 images"),
    ],
    ids=["one image", "copies of one", "all flat", "all but one flat", "bit depth", "too many damaged"],
)
def test_what_training_would_refuse(spoil: Callable[[Path], object], words: str, root: Path) -> None:
    spoil(root)
    refusal = report_of(root).refusal
    assert refusal is not None
    assert words in refusal


def test_the_bit_depth_that_train_will_be_told_counts(root: Path) -> None:
    fill(root, lambda i: part(i).astype(np.uint16) << 4)
    assert report_of(root, bit_depth=12).refusal is None


def test_a_list_names_only_the_folders_of_its_images(tmp_path: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for i in range(3):
        save(tmp_path / f"a/{i}.png", part(i))
        rows.append(f"a,train,normal,a/{i}.png,")
    save(tmp_path / "a/left.png", part(9))
    save(tmp_path / "b/other.png", part(10))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    (finding,) = check_dataset(load_dataset(csv=tmp_path / "list.csv")).findings
    assert (finding.kind, finding.files) == ("unused", ("left.png",))
