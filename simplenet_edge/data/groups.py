"""Which images show the same part: what `--group` says, by their names, by a list, or found from the images.

A part has a label, any text; images with the same one show the same part. Nothing heavy is imported before images are
compared.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from simplenet_edge.data.class_names import is_good_name
from simplenet_edge.errors import ConfigError, DataError

if TYPE_CHECKING:
    from simplenet_edge.data.facts import ImageFacts
    from simplenet_edge.data.samples import Sample

__all__ = ["absolute_group", "check_group", "joined", "known_labels", "labels_by_name", "part_labels"]

_AUTO = "auto"
_NONE = "none"
_LIST = re.compile(r"(.+\.csv)(?::([^:/\\]+))?", re.IGNORECASE | re.DOTALL)
_IMAGE_COLUMNS = ("image", "path", "name", "file")
_PART_COLUMNS = ("part", "group")
_SIDES = ("train", "test", "defect")  # folders of a dataset's layouts
_DELIMITERS = ",;\t"
_NAMED = 3


def check_group(group: str) -> None:
    """Raise ConfigError for a text that can't be the value of `--group`; files are not looked at."""
    if group in (_AUTO, _NONE, "folder") or _LIST.fullmatch(group):
        return
    expected = (
        "expected auto, none, folder, FILE.csv, FILE.csv:COLUMN, or a pattern with one group that gives the part, such "
        r"as 'part(\d+)_'"
    )
    try:
        groups = re.compile(group).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"--group {group!r}: {expected}, found no regular expression ({error})") from error
    if groups != 1:
        raise ConfigError(f"--group {group!r}: {expected}, found {groups} groups in (...); use (?:...) for others")


def absolute_group(group: str) -> str:
    """The same value of `--group`, whatever the working directory is."""
    found = _LIST.fullmatch(group)
    if found is None:
        return group
    return f"{Path(found[1]).absolute()}" + (f":{found[2]}" if found[2] else "")


def part_labels(facts: Sequence[ImageFacts], group: str) -> tuple[list[str], int]:
    """The part of each image, and how many `auto` left alone since too many were alike for one part.

    Copies with the same pixels show one part whatever `group` says. Raises as `labels_by_name` does.
    """
    import numpy as np

    from simplenet_edge.data.near_duplicates import near_duplicates

    labels, kinds = labels_by_name([one.sample for one in facts], group), 0
    if labels is None:
        groups, kinds = near_duplicates(np.stack([one.descriptor for one in facts])) if facts else ([], 0)
        labels = [facts[first].sample.name for first in groups]
    return joined(labels, [one.pixels for one in facts]), kinds


def labels_by_name(samples: Sequence[Sample], group: str) -> list[str] | None:
    """The part of each sample where names or a list tell it, None for `auto`.

    Raises ConfigError for a pattern that doesn't match every name, DataError for a list that can't be read or in which
    an image is missing.
    """
    check_group(group)
    if group == _AUTO:
        return None
    found = known_labels(samples, group)
    if group == "folder":  # those beside the folders are one part too
        return [found.get(sample.name, "") for sample in samples]
    if missing := [sample.name for sample in samples if sample.name not in found]:
        named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        if _LIST.fullmatch(group):
            raise DataError(
                f"{group}: expected a row for each image with its path in the dataset or its name, and its part; found "
                f"none for {len(missing)} of {len(samples)}, {named}; add them"
            )
        raise ConfigError(
            f"--group {group!r}: expected a pattern found in the name of each image, it is not in {len(missing)} of "
            f"{len(samples)}, {named}; widen it, or name the parts in a CSV file"
        )
    return [found[sample.name] for sample in samples]


def known_labels(samples: Sequence[Sample], group: str) -> dict[str, str]:
    """The part of each sample whose name tells it, by the sample's name; `group` is not `auto`. Raises DataError."""
    if group == _NONE:
        return {sample.name: sample.name for sample in samples}
    if group == "folder":
        return {sample.name: folder for sample in samples if (folder := _folder(sample))}
    if found := _LIST.fullmatch(group):
        return _listed(samples, Path(found[1]), found[2])
    pattern = re.compile(group)
    matches = {sample.name: pattern.search(sample.name) for sample in samples}
    return {name: match[1] for name, match in matches.items() if match and match[1] is not None}


def joined(labels: Sequence[str], others: Sequence[str]) -> list[str]:
    """The labels with those made one that share one of the `others`, over as many steps as it takes."""
    parent = {label: label for label in labels}

    def root(label: str) -> str:
        while parent[label] != label:
            parent[label] = label = parent[parent[label]]
        return label

    first: dict[str, str] = {}
    for label, other in zip(labels, others, strict=True):
        one, two = root(first.setdefault(other, label)), root(label)
        parent[max(one, two)] = min(one, two)
    return [root(label) for label in labels]


def _folder(sample: Sample) -> str:
    """The folder that an image is in, below that of its class: the same for good parts to train on and to test on.

    Empty for an image that lies in the folder of its class itself.
    """
    folders = PurePosixPath(sample.name).parent.parts
    kept = [
        name for name in folders if name.casefold() not in _SIDES and name != sample.defect and not is_good_name(name)
    ]
    return "/".join(kept)


def _listed(samples: Sequence[Sample], path: Path, column: str | None) -> dict[str, str]:
    """The part of each sample that a list names: by its path in the dataset, or by its file's name where that is the
    only one. Raises DataError.
    """
    parts: dict[str, str] = {}
    by_file: defaultdict[str, set[str]] = defaultdict(set)
    for line, image, part in _rows(path, column):
        name = PurePosixPath(image.replace("\\", "/")).as_posix()
        if parts.setdefault(name, part) != part:
            raise DataError(
                f"{path}, line {line}: expected one part for {image}, found {parts[name]} and {part}; keep one"
            )
        by_file[PurePosixPath(name).name].add(name)
    files = Counter(PurePosixPath(name).name for name in {sample.name for sample in samples})
    found = {}
    for sample in samples:
        file = PurePosixPath(sample.name).name
        if sample.name in parts:
            found[sample.name] = parts[sample.name]
        elif files[file] == 1 and len(by_file[file]) == 1:
            found[sample.name] = parts[next(iter(by_file[file]))]
    return found


def _rows(path: Path, column: str | None) -> list[tuple[int, str, str]]:
    """Line number, image and part of each row that names both. Raises DataError."""
    try:
        if not path.is_file():
            found = "something else" if path.exists() else "no such file"
            raise DataError(f"{path}: expected a CSV file that says which part each image shows, found {found}")
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(_DELIMITERS, key=first.count))
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            image = _column(path, names, _IMAGE_COLUMNS)
            part = _column(path, names, _PART_COLUMNS if column is None else (column,))
            rows = [(reader.line_num, (row[image] or "").strip(), (row[part] or "").strip()) for row in reader]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as CSV in UTF-8 ({error}); save it again") from error
    return [row for row in rows if row[1] and row[2]]


def _column(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    """The first of the columns that has a wanted name, in any case. Raises DataError."""
    lowered = [name.casefold() for name in wanted]
    found = next((name for name in names if name.casefold() in lowered), None)
    if found is None:
        raise DataError(
            f"{path}: expected a column {' or '.join(wanted)}, found {', '.join(names) or 'none'}; name the column of "
            "parts behind a colon, FILE.csv:COLUMN"
        )
    return found
