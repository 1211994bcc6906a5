"""Folders and lists of images as a `Dataset`: MVTec AD's layout, plain folders, VisA's CSV.

Nothing is decoded here. Samples are sorted by name, so the same files always give the same dataset. Names that start
with a dot are passed over, and so are files whose ending is not in `IMAGE_SUFFIXES`.
"""

from __future__ import annotations

import csv as csv_format
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES
from simplenet_edge.imaging.folder import image_files, report_passed_over

__all__ = ["GOOD_TEST_SHARE", "Dataset", "Sample", "content_hash", "load_dataset"]

GOOD_TEST_SHARE = 0.2
"""Share of the good images that plain folders hold out of training, to be tested beside the defective ones."""

_MASK_SUFFIXES = IMAGE_SUFFIXES - {".jpeg", ".jpg", ".webp"}
_CSV_COLUMNS = ("object", "split", "label", "image", "mask")


@dataclass(frozen=True)
class Sample:
    """One image file of a dataset.

    `defect` is None on a good part, otherwise the defect class, e.g. "scratch". `mask_path` is the ground truth of a
    defective part, where there is one. `name` is the path inside the dataset with forward slashes, the same on every
    machine; without it, the file's name.
    """

    path: Path
    defect: str | None = None
    mask_path: Path | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.name)


@dataclass(frozen=True)
class Dataset:
    """`train`: good parts, for training and calibration. `test`: labelled good and defective parts; may be empty."""

    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]


def load_dataset(
    root: Path | None = None,
    *,
    good: Path | None = None,
    defect: Path | None = None,
    masks: Path | None = None,
    csv: Path | None = None,
    category: str | None = None,
) -> Dataset:
    """A dataset in one of three layouts.

    - `root`: MVTec AD, one category: `train/good`, `test/<class>`, `ground_truth/<class>/<stem>_mask.png` or
      `<stem>.png` (Bergmann et al., CVPR 2019). Without `train/good`, images directly in `root` are good parts.
    - `good`, and where there are any `defect` and `masks`: plain folders. The first folder under `defect` is the
      defect class, images directly in it are of class "defect"; `masks` mirrors the names in `defect`. With `defect`,
      about `GOOD_TEST_SHARE` of the good images go to the test set, at least one, and at least two stay. A file's
      content alone decides, so adding a file moves no other (but in sets of a few images), and byte-identical copies
      stay together.
    - `csv`, with `category` where it lists several objects: VisA's `split_csv/1cls.csv` (Zou et al., ECCV 2022).
      Its paths start at `root`; without `root`, at the folder that holds `split_csv`, or else the CSV.

    Raises ConfigError for options that don't go together, DataError for files and folders that can't be used.
    """
    try:
        if csv is not None:
            _refuse_options("csv", good=good, defect=defect, masks=masks)
            return _visa(csv, root, category)
        if good is not None:
            _refuse_options("good", root=root, category=category)
            return _plain(good, defect, masks)
        if root is not None:
            _refuse_options("root without csv", defect=defect, masks=masks, category=category)
            return _mvtec(root) if (root / "train" / "good").is_dir() else _good_only(root)
    except OSError as error:
        raise DataError(
            f"{error.filename}: can't be read ({error.strerror}); check the path and permissions"
        ) from error
    looked = f", {defect} has only defective ones" if defect is not None else ""
    raise ConfigError(f"training needs images of good parts{looked}; name a root, a good folder or a csv")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, read in pieces. Raises DataError."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    return digest.hexdigest()


def _mvtec(root: Path) -> Dataset:
    train_dir, test_dir, masks_dir = root / "train" / "good", root / "test", root / "ground_truth"
    train = [Sample(train_dir / name, name=f"train/good/{name}") for name in _images(train_dir, "good parts")]
    names = _images(test_dir, "test images") if test_dir.exists() else []
    if loose := [name for name in names if len(name.parts) == 1]:
        raise DataError(f"{test_dir / loose[0]}: expected it in test/good or test/<defect class>; move it into one")
    defects = {name: name.parts[0] for name in names if name.parts[0] != "good"}
    masks = _match_masks(defects, masks_dir, skip="good") if masks_dir.exists() else {}
    test = [Sample(test_dir / name, defects.get(name), masks.get(name), f"test/{name}") for name in names]
    return Dataset(root.resolve().name, tuple(train), tuple(test))


def _good_only(root: Path) -> Dataset:
    names = _images(root, "images")
    if nested := [name for name in names if len(name.parts) > 1]:
        categories = sorted(path.parents[1].name for path in root.glob("*/train/good"))
        advice = f"name one of its datasets: {', '.join(categories)}" if categories else "name the folder of good parts"
        raise DataError(
            f"{root}: training needs images of good parts, expected {root / 'train' / 'good'} or images in {root} and "
            f"none in its folders, found {root / nested[0]}; {advice}"
        )
    return Dataset(root.resolve().name, tuple(Sample(root / name, name=f"good/{name}") for name in names), ())


def _plain(good: Path, defect: Path | None, masks: Path | None) -> Dataset:
    if masks is not None and defect is None:
        raise ConfigError("masks go with a defect folder: name it too, or leave the masks out")
    _refuse_nesting([folder for folder in (good, defect, masks) if folder is not None])
    train = [Sample(good / name, name=f"good/{name}") for name in _images(good, "good parts")]
    name = good.resolve().name
    if defect is None:
        return Dataset(name, tuple(train), ())
    names = _images(defect, "defective parts")
    if wrong := [name for name in names if name.parts[0] == "good"]:
        raise DataError(f"{defect / wrong[0]}: a good part among the defective ones; move the folder out of {defect}")
    matched = _match_masks(names, masks) if masks is not None else {}
    train, test = _hold_out(train)
    for image in names:
        defect_class = image.parts[0] if len(image.parts) > 1 else "defect"
        test.append(Sample(defect / image, defect_class, matched.get(image), f"defect/{image}"))
    return Dataset(name, tuple(train), tuple(sorted(test, key=lambda sample: sample.name)))


def _hold_out(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    contents = [content_hash(sample.path) for sample in samples]
    ordered = sorted(set(contents))
    share = sum(int(content[:16], 16) < GOOD_TEST_SHARE * 16**16 for content in ordered)
    held = set(ordered[: min(max(share, 1), max(len(ordered) - 2, 0))])
    kept = [sample for sample, content in zip(samples, contents, strict=True) if content not in held]
    return kept, [sample for sample, content in zip(samples, contents, strict=True) if content in held]


def _visa(csv: Path, root: Path | None, category: str | None) -> Dataset:
    if root is None:
        root = csv.parent.parent if csv.parent.name == "split_csv" else csv.parent
    rows = _csv_rows(csv)
    objects = sorted({row["object"] for row in rows.values()})
    if category is None and len(objects) == 1:
        category = objects[0]
    if category not in objects:
        raise DataError(f"{csv}: expected a category out of {', '.join(objects)}, found {category}; name one of them")
    sides: dict[str, list[Sample]] = {"train": [], "test": []}
    for line, row in rows.items():
        if row["object"] != category:
            continue
        sample = _csv_sample(row, root, f"{csv}, line {line}")
        if row["split"] == "train" and sample.defect is not None:
            raise DataError(f"{csv}, line {line}: expected good parts in train, found a defective one; use 1cls.csv")
        sides[row["split"]].append(sample)
    if not sides["train"]:
        raise DataError(f"{csv}: training needs images of good parts, found no train row of {category}; add some")
    train, test = (sorted(side, key=lambda sample: sample.name) for side in sides.values())
    name, count = Counter(sample.name for sample in (*train, *test)).most_common(1)[0]
    if count > 1:
        raise DataError(f"{csv}: expected one line for each image, found {count} of {name}; keep one")
    return Dataset(category, tuple(train), tuple(test))


def _csv_rows(csv: Path) -> dict[int, dict[str, str]]:
    """The rows by line number, every column of `_CSV_COLUMNS` present and stripped."""
    rows = {}
    try:
        with csv.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_format.DictReader(file)
            if missing := [column for column in _CSV_COLUMNS if column not in (reader.fieldnames or ())]:
                raise DataError(
                    f"{csv}: expected the columns {', '.join(_CSV_COLUMNS)}, found no {', '.join(missing)}; "
                    "write the first line and the rows as VisA's split_csv/1cls.csv has them"
                )
            for row in reader:
                rows[reader.line_num] = {column: (row[column] or "").strip() for column in _CSV_COLUMNS}
    except (csv_format.Error, UnicodeDecodeError) as error:
        raise DataError(f"{csv}: is not CSV in UTF-8 ({error}); save it again") from error
    if not rows:
        raise DataError(f"{csv}: expected one row for each image, found none; add them")
    return rows


def _csv_sample(row: dict[str, str], root: Path, where: str) -> Sample:
    for column, allowed in (("split", ("train", "test")), ("label", ("normal", "anomaly"))):
        if row[column] not in allowed:
            raise DataError(f"{where}: expected the {column} {' or '.join(allowed)}, found {row[column]!r}; correct it")
    good = row["label"] == "normal"
    mask = root / row["mask"] if row["mask"] and not good else None
    for file in (root / row["image"], mask):
        if file is not None and not file.is_file():
            raise DataError(f"{where}: no file {file}; check the line, and that paths start at {root}")
    return Sample(root / row["image"], None if good else "anomaly", mask, row["image"])


def _images(folder: Path, what: str) -> list[PurePosixPath]:
    """The images in a folder and below it, relative to it, sorted. DataError where there are none."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: expected a folder of {what}, found {found}; check the path")
    others: list[Path] = []
    names = [PurePosixPath(path.relative_to(folder).as_posix()) for path, _ in image_files(folder, others)]
    report_passed_over(folder, others)
    if not names:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder}: expected a folder of {what}, found no image ({endings}) in it; add some")
    return sorted(names, key=str)


def _match_masks(images: Iterable[PurePosixPath], folder: Path, skip: str | None = None) -> dict[PurePosixPath, Path]:
    """The mask file of each image that has one; masks in the top folder `skip` are passed over."""
    by_stem: defaultdict[str, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        by_stem[_stem(image)].append(image)
    matched: dict[PurePosixPath, Path] = {}
    for mask in _images(folder, "masks"):
        if mask.parts[0] == skip:
            continue
        if mask.suffix.lower() not in _MASK_SUFFIXES:
            raise DataError(f"{folder / mask}: {mask.suffix} smears the edges of a mask; save the masks as PNG")
        stem = _stem(mask) if _stem(mask) in by_stem else _stem(mask).removesuffix("_mask")
        owners = by_stem.get(stem, [])
        if len(owners) != 1:
            found = " and ".join(map(str, owners)) or "no such image"
            raise DataError(f"{folder / mask}: expected one image {stem} for this mask, found {found}; remove one")
        if owners[0] in matched:
            raise DataError(f"{folder / mask}: {owners[0]} has another mask, {matched[owners[0]]}; remove one of them")
        matched[owners[0]] = folder / mask
    return matched


def _stem(name: PurePosixPath) -> str:
    return name.as_posix().removesuffix(name.suffix)


def _refuse_options(chosen: str, **others: object) -> None:
    if given := [name for name, value in others.items() if value is not None]:
        raise ConfigError(
            f"{chosen} doesn't go with {', '.join(given)}; name a root, or good with defect and masks, or csv with "
            "root and category"
        )


def _refuse_nesting(folders: Iterable[Path]) -> None:
    resolved = [folder.resolve() for folder in folders]
    for inner in resolved:
        for outer in resolved:
            if inner is not outer and inner.is_relative_to(outer):
                raise ConfigError(
                    f"the folders of good parts, defective parts and masks must lie apart, and {inner} is in {outer}; "
                    "move it out"
                )
