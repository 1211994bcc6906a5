"""Lists of images in VisA's format: `split_csv/1cls.csv` (Zou et al., ECCV 2022). Nothing is decoded."""

from __future__ import annotations

import csv as csv_format
from collections import Counter
from pathlib import Path

from simplenet_edge.data.class_names import is_bad_name, is_good_name
from simplenet_edge.data.samples import Dataset, Sample
from simplenet_edge.errors import DataError

__all__ = ["visa_dataset"]

_COLUMNS = ("object", "split", "label", "image", "mask")
_DELIMITERS = ",;\t"  # semicolons are what spreadsheets write where the comma is a decimal point


def visa_dataset(csv: Path, root: Path | None, category: str | None, *, for_training: bool = True) -> Dataset:
    """The images of one object of `csv`, whose paths start at `root`, or else at the folder that holds `split_csv`, or
    the CSV. Raises DataError.
    """
    if root is None:
        root = csv.parent.parent if csv.parent.name == "split_csv" else csv.parent
    rows = _rows(csv)
    objects = sorted({row["object"] for row in rows.values()})
    if category is None and len(objects) == 1:
        category = objects[0]
    if category not in objects:
        raise DataError(
            f"{csv}: expected a category out of {', '.join(objects)}, found {category}; name one of them (--category)"
        )
    sides: dict[str, list[Sample]] = {"train": [], "test": []}
    good_masks = []
    for line, row in rows.items():
        if row["object"] != category:
            continue
        split, sample, mask = _sample(row, root, f"{csv}, line {line}")
        if split == "train" and sample.defect is not None:
            raise DataError(f"{csv}, line {line}: expected good parts in train, found a defective one; use 1cls.csv")
        if sample.defect is None and mask is not None:
            good_masks.append(mask)
        sides[split].append(sample)
    if for_training and not sides["train"]:
        raise DataError(f"{csv}: training needs images of good parts, found no train row of {category}; add some")
    train, test = (sorted(side, key=lambda sample: sample.name) for side in sides.values())
    name, count = Counter(sample.name for sample in (*train, *test)).most_common(1)[0]
    if count > 1:
        raise DataError(f"{csv}: expected one line for each image, found {count} of {name}; keep one")
    used = {path.parent for sample in (*train, *test) for path in (sample.path, *sample.mask_paths)}
    outermost = tuple(sorted(folder for folder in used if used.isdisjoint(folder.parents)))
    return Dataset(category, tuple(train), tuple(test), "VisA's list", outermost, tuple(good_masks))


def _rows(csv: Path) -> dict[int, dict[str, str]]:
    """The rows by line number, every column of `_COLUMNS` present and stripped."""
    if csv.exists() and not csv.is_file() and not csv.is_dir():  # a pipe or a device might never end
        raise DataError(f"{csv}: expected a CSV file, found a pipe or a device; name the file")
    rows = {}
    try:
        with csv.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)
            reader = csv_format.DictReader(file, delimiter=delimiter)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            if missing := [column for column in _COLUMNS if column not in reader.fieldnames]:
                raise DataError(
                    f"{csv}: expected the columns {', '.join(_COLUMNS)}, found no {', '.join(missing)}; "
                    "write the first line and the rows as VisA's split_csv/1cls.csv has them"
                )
            for row in reader:
                rows[reader.line_num] = {column: (row[column] or "").strip() for column in _COLUMNS}
    except (csv_format.Error, UnicodeDecodeError) as error:
        raise DataError(f"{csv}: is not CSV in UTF-8 ({error}); save it again") from error
    if not rows:
        raise DataError(f"{csv}: expected one row for each image, found none; add them")
    return rows


def _sample(row: dict[str, str], root: Path, where: str) -> tuple[str, Sample, Path | None]:
    """The split of a row, its sample, and its mask whether it counts or not."""
    split, label = row["split"].lower(), row["label"]
    if split not in ("train", "test"):
        raise DataError(f"{where}: expected the split train or test, found {row['split']!r}; correct it")
    good = is_good_name(label)
    if not good and not is_bad_name(label):
        raise DataError(f"{where}: expected the label normal or anomaly, found {label!r}; correct it")
    image, mask = _file(root, row["image"], where), _file(root, row["mask"], where) if row["mask"] else None
    name = image.relative_to(root).as_posix() if image.is_relative_to(root) else row["image"]
    return split, Sample(image, None if good else "anomaly", None if good else mask, name), mask


def _file(root: Path, text: str, where: str) -> Path:
    """The file that a row names, with backslashes where it was written on Windows. Raises DataError."""
    for path in (root / text, root / text.replace("\\", "/")):
        if path.is_file():
            return path
    hint = ", written with / between folders" if "\\" in text else ""
    raise DataError(f"{where}: no file {root / text}; check the line, and that paths start at {root}{hint}")
