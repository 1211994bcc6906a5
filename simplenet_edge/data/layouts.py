"""Folders and lists of images as a `Dataset`: MVTec AD's layout, plain folders, VisA's CSV.

Nothing is decoded here but the good parts of plain folders, to keep copies together. Samples are sorted by name, so the
same files always give the same dataset. Names that start with a dot are passed over, and so are files whose ending is
not in `IMAGE_SUFFIXES`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from simplenet_edge.data.class_names import is_bad_name, is_good_name
from simplenet_edge.data.copies import copy_groups
from simplenet_edge.data.masks import MatchedMasks, match_masks
from simplenet_edge.data.samples import Dataset, Sample
from simplenet_edge.data.visa import visa_dataset
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES
from simplenet_edge.imaging.folder import image_files, report_passed_over

__all__ = ["GOOD_TEST_SHARE", "Dataset", "Sample", "is_mvtec", "load_dataset"]

_log = logging.getLogger(__name__)

GOOD_TEST_SHARE = 0.2
"""Share of the good images that plain folders hold out of training, to be tested beside the defective ones."""

_OTHER_FOLDERS = "where good parts lie elsewhere, pass --good FOLDER, and --defect FOLDER for defective ones"


def load_dataset(
    root: Path | None = None,
    *,
    good: Path | None = None,
    defect: Path | None = None,
    masks: Path | None = None,
    csv: Path | None = None,
    category: str | None = None,
    for_training: bool = True,
) -> Dataset:
    """A dataset in one of three layouts.

    - `root`: MVTec AD, one category: `train/good`, `test/<class>`, `ground_truth/<class>/<stem>_mask.png` and the other
      names of `data.masks` (Bergmann et al., CVPR 2019). Without `train/good`, images directly in `root` are good
      parts; `for_training` False takes a `test` without `train` too.
    - `good`, and where there are any `defect` and `masks`: plain folders. The first folder under `defect` is the
      defect class, images directly in it are of class "defect"; `masks` mirrors the names in `defect`. With `defect`,
      about `GOOD_TEST_SHARE` of the good images go to the test set, at least one, and at least two stay. An image's
      content alone decides, so adding a file moves no other (but in sets of a few images), and copies with the same
      pixels stay together.
    - `csv`, with `category` where it lists several objects: VisA's `split_csv/1cls.csv` (Zou et al., ECCV 2022).
      Its paths start at `root`; without `root`, at the folder that holds `split_csv`, or else the CSV.

    Folders and labels of good parts may have any of the names of `data.class_names`, in any case, one at a time. What
    the dataset's `notes` say goes into the log too. Raises ConfigError for options that don't go together, DataError
    for files and folders that can't be used.
    """
    try:
        if csv is not None:
            _refuse_options("csv", good=good, defect=defect, masks=masks)
            dataset = visa_dataset(csv, root, category, for_training=for_training)
        elif good is not None:
            _refuse_options("good", root=root, category=category)
            dataset = _plain(good, defect, masks)
        elif root is not None:
            _refuse_options("root without csv", defect=defect, masks=masks, category=category)
            is_whole = is_mvtec(root) or (not for_training and _subfolder(root, "test") is not None)
            dataset = _mvtec(root) if is_whole else _good_only(root, for_training)
        else:
            looked = f", {defect} has only defective ones" if defect is not None else ""
            raise ConfigError(
                f"{_needs(for_training)}{looked}; name a root (--data), a good folder (--good) or a csv (--csv)"
            )
    except OSError as error:
        raise DataError(
            f"{error.filename}: can't be read ({error.strerror}); check the path and permissions"
        ) from error
    for note in dataset.notes:
        _log.warning("%s", note)
    return dataset


def is_mvtec(root: Path) -> bool:
    """Whether a folder is a category in MVTec AD's layout: with good parts in `train`. Raises DataError, OSError."""
    return _good_folder(root) is not None


def _subfolder(folder: Path, *names: str) -> Path | None:
    """The subfolder of one of these names in any case and with any separators. Raises DataError for several."""
    found = [path for path in _folders(folder) if path.name.casefold().replace("_", "").replace("-", "") in names]
    if len(found) > 1:
        raise DataError(f"{folder}: expected one folder {names[0]}, found {_listed(found)}; move all into one")
    return found[0] if found else None


def _good_folder(root: Path) -> Path | None:
    train = _subfolder(root, "train")
    return None if train is None else _only_good(train)


def _only_good(folder: Path) -> Path | None:
    """The folder of good parts in `folder`. Raises DataError for several."""
    found = [path for path in _folders(folder) if is_good_name(path.name)]
    if len(found) > 1:
        raise DataError(
            f"{folder}: expected one folder of good parts, found {_listed(found)}; move them into one, or rename what "
            "is a defect class"
        )
    return found[0] if found else None


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(folders: Iterable[Path]) -> str:
    return " and ".join(path.name for path in folders)


def _mvtec(root: Path) -> Dataset:
    train_dir, test_dir = _good_folder(root), _subfolder(root, "test")
    masks_dir = _subfolder(root, "groundtruth")
    notes: list[str] = []
    train: list[Sample] = []
    if train_dir is not None:
        inside = train_dir.relative_to(root).as_posix()
        train = [Sample(train_dir / name, name=f"{inside}/{name}") for name in _good_images(train_dir)]
        if others := [path for path in _folders(train_dir.parent) if path != train_dir]:
            notes.append(f"{train_dir.parent}: only {train_dir.name} is used, not {_listed(others)}")
    names = [] if test_dir is None else _images(test_dir, "test images", notes)
    if test_dir is not None and (loose := [name for name in names if len(name.parts) == 1]):
        raise DataError(f"{test_dir / loose[0]}: expected it in test/good or test/<defect class>; move it into one")
    if test_dir is not None:
        _only_good(test_dir)  # or it is ambiguous
    defects = {name: name.parts[0] for name in names if not is_good_name(name.parts[0])}
    _refuse_good(defects, test_dir or root)
    masks, good_masks = _masks(defects, masks_dir, notes) if masks_dir is not None else (MatchedMasks({}), ())
    test = [
        _tested(test_dir / name, defects.get(name), masks, name, f"{test_dir.name}/{name}")
        for name in names
        if test_dir is not None
    ]
    return Dataset(
        root.resolve().name, tuple(train), tuple(test), "MVTec AD", (root,), good_masks, (*notes, *masks.notes)
    )


def _good_only(root: Path, for_training: bool) -> Dataset:
    names = _images(root, "images")
    if nested := [name for name in names if len(name.parts) > 1]:
        expected = f"{root / 'train' / 'good'} or images in {root} and none in its folders"
        if not for_training:
            expected = f"{root / 'test' / 'good'} and {root / 'test' / '<defect class>'}"
        raise DataError(
            f"{root}: {_needs(for_training)}, expected {expected}, found {root / nested[0]}; {_advice(root)}"
        )
    train = tuple(Sample(root / name, name=f"good/{name}") for name in names)
    return Dataset(root.resolve().name, train, (), "a folder of good parts", (root,))


def _advice(root: Path) -> str:
    """What to name instead of a folder that is in no layout."""
    folders = _folders(root)
    if categories := [path.name for path in folders if is_mvtec(path)]:
        return f"name one of its datasets: {', '.join(categories)}"
    good = [path for path in folders if is_good_name(path.name)]
    bad = [path for path in folders if is_bad_name(path.name)]
    if len(good) == 1:
        defective = f" --defect {bad[0]}" if len(bad) == 1 else ", and --defect FOLDER for defective parts"
        return f"pass --good {good[0]}{defective}"
    return f"name the folder of good parts; {_OTHER_FOLDERS}"


def _plain(good: Path, defect: Path | None, masks: Path | None) -> Dataset:
    if masks is not None and defect is None:
        raise ConfigError("masks go with a defect folder: name it too (--defect), or leave --masks out")
    folders = tuple(folder for folder in (good, defect, masks) if folder is not None)
    _refuse_nesting(folders)
    train = [Sample(good / name, name=f"good/{name}") for name in _good_images(good)]
    name = good.resolve().name
    if defect is None:
        return Dataset(name, tuple(train), (), "a folder of good parts", folders)
    names = _images(defect, "defective parts")
    _refuse_good(names, defect, first=0)
    train, test = _hold_out(train)
    notes: list[str] = []
    matched, good_masks = _masks(names, masks, notes) if masks is not None else (MatchedMasks({}), ())
    for image in names:
        defect_class = image.parts[0] if len(image.parts) > 1 else "defect"
        test.append(_tested(defect / image, defect_class, matched, image, f"defect/{image}"))
    test.sort(key=lambda sample: sample.name)
    return Dataset(name, tuple(train), tuple(test), "plain folders", folders, good_masks, (*notes, *matched.notes))


def _tested(path: Path, defect: str | None, masks: MatchedMasks, image: PurePosixPath, name: str) -> Sample:
    first, *more = masks.by_image.get(image, (None,))
    return Sample(path, defect, first, name, tuple(path for path in more if path is not None))


def _hold_out(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    contents = copy_groups(samples)
    ordered = sorted(set(contents))
    share = sum(int(content[:16], 16) < GOOD_TEST_SHARE * 16**16 for content in ordered)
    held = set(ordered[: min(max(share, 1), max(len(ordered) - 2, 0))])
    kept = [sample for sample, content in zip(samples, contents, strict=True) if content not in held]
    return kept, [sample for sample, content in zip(samples, contents, strict=True) if content in held]


def _good_images(folder: Path) -> list[PurePosixPath]:
    names = _images(folder, "good parts")
    for name in names:
        if bad := [part for part in name.parts[:-1] if is_bad_name(part)]:
            raise DataError(
                f"{folder / name}: a folder {bad[0]} of defective parts among the good ones, which would be trained "
                f"on; move it out of {folder}, or name the folder of good parts alone with --good"
            )
    return names


def _refuse_good(names: Iterable[PurePosixPath], folder: Path, first: int = 1) -> None:
    """Raise DataError for a defective part in a folder whose name means good parts, from level `first` on."""
    for name in names:
        if any(is_good_name(part) for part in name.parts[first:-1]):
            raise DataError(
                f"{folder / name}: a good part among the defective ones, by its folder; move the folder out of "
                f"{folder / PurePosixPath(*name.parts[:first])}, or give it another name"
            )


def _images(folder: Path, what: str, notes: list[str] | None = None) -> list[PurePosixPath]:
    """The images in a folder and below it, relative to it, sorted.

    Where there are none, a line in `notes`; without them, DataError.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: expected a folder of {what}, found {found}; check the path")
    others: list[Path] = []
    names = [PurePosixPath(path.relative_to(folder).as_posix()) for path, _ in image_files(folder, others)]
    report_passed_over(folder, others)
    if not names and notes is None:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{folder}: expected a folder of {what}, found no image ({endings}) in it; add some")
    if not names and notes is not None:
        notes.append(f"{folder}: holds no {what}; it is taken as if it weren't there")
    return sorted(names, key=str)


def _masks(images: Iterable[PurePosixPath], folder: Path, notes: list[str]) -> tuple[MatchedMasks, tuple[Path, ...]]:
    """The masks of defective parts, and those of good parts, which are not used."""
    masks = _images(folder, "masks", notes)
    of_good = [name for name in masks if is_good_name(name.parts[0])]
    matched = match_masks(images, folder, [name for name in masks if name not in set(of_good)])
    return matched, tuple(folder / name for name in of_good)


def _needs(for_training: bool) -> str:
    return "training needs images of good parts" if for_training else "evaluation needs labelled test images"


def _refuse_options(chosen: str, **others: object) -> None:
    if given := [name for name, value in others.items() if value is not None]:
        raise ConfigError(
            f"{chosen} doesn't go with {', '.join(given)}; name a root (--data), or good with defect and masks "
            "(--good, --defect, --masks), or csv with root and category (--csv, --data, --category)"
        )


def _refuse_nesting(folders: Sequence[Path]) -> None:
    resolved = [folder.resolve() for folder in folders]
    for inner in resolved:
        for outer in resolved:
            if inner is not outer and inner.is_relative_to(outer):
                raise ConfigError(
                    f"the folders of good parts, defective parts and masks must lie apart, and {inner} is in {outer}; "
                    "move it out"
                )
