"""A data set looked over before training: what was found of it, and whether `train` would refuse it. No PyTorch.

Every image is decoded once, its mask besides. Grey levels are 0..255.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simplenet_edge.data.facts import ImageFacts, gather_facts, refuse_untrainable
from simplenet_edge.data.findings import Finding, counted, image_findings, listed
from simplenet_edge.data.groups import part_labels
from simplenet_edge.data.reading import MAX_CORRUPT_SHARE, check_bit_depth, read_whole_mask, split_good
from simplenet_edge.data.samples import Dataset, Sample
from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES, read_mask
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import FULL_BIT_DEPTH, InputSpec

__all__ = ["CheckReport", "Group", "check_dataset"]

_SPREADS = 3  # standard deviations between images that light must differ by
_LEAST_LEVELS = 5.0  # grey levels that it must differ by besides
_MOST_MARKED = 0.5  # share of an image: a mask that marks more may be inverted


@dataclass(frozen=True)
class Group:
    """The images of one class on one side, such as "test/scratch"; means over images, None where none can be used."""

    name: str
    n: int
    n_damaged: int
    sizes: tuple[str, ...]  # WIDTHxHEIGHT, the most frequent one first
    kinds: tuple[str, ...]  # JPEG, PNG, ...
    mean: float | None  # of the grey levels
    mean_spread: float | None  # standard deviation of that between images
    contrast: float | None  # standard deviation of the grey levels within an image


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What `check_dataset` found. `refusal` is why `train` would not take the data, None where it would."""

    dataset: Dataset
    facts: tuple[ImageFacts, ...]
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    refusal: str | None

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return {
            "dataset": self.dataset.name,
            "layout": self.dataset.layout,
            "images": {"train": len(self.dataset.train), "test": len(self.dataset.test)},
            "groups": [
                {**dataclasses.asdict(group), "sizes": list(group.sizes), "kinds": list(group.kinds)}
                for group in self.groups
            ],
            "findings": [{"kind": one.kind, "text": one.text, "files": list(one.files)} for one in self.findings],
            "refusal": self.refusal,
        }


def check_dataset(dataset: Dataset, bit_depth: int = FULL_BIT_DEPTH, progress: Progress = ignore) -> CheckReport:
    """Look over every file of a data set. `bit_depth` is what `train` would be given for 16-bit images."""
    samples = (*dataset.train, *dataset.test)
    facts = gather_facts(samples, bit_depth, progress)
    n_train = len(dataset.train)
    by_group: defaultdict[str, list[ImageFacts]] = defaultdict(list)
    for i, one in enumerate(facts):
        by_group[f"{'train' if i < n_train else 'test'}/{one.sample.defect or 'good'}"].append(one)
    groups = tuple(_group(name, members) for name, members in by_group.items())
    findings = [Finding("layout", note) for note in dataset.notes]
    findings += _damaged(facts)
    findings += image_findings(facts)
    findings += _leaks(facts[:n_train], facts[n_train:])
    told = {name for one in findings if one.kind in ("copies", "alike", "leak") for name in one.files}
    findings += _parts(facts[:n_train], facts[n_train:], told)
    findings += _light(groups)
    findings += _masks(dataset, facts[n_train:])
    findings += _unused(dataset)
    return CheckReport(dataset, facts, groups, tuple(findings), _refusal(facts[:n_train], bit_depth))


def _group(name: str, members: Sequence[ImageFacts]) -> Group:
    usable = [one for one in members if one.error is None]
    means = [one.mean for one in usable]
    sizes = [f"{one.size_hw[1]}x{one.size_hw[0]}" for one in usable]
    return Group(
        name,
        len(members),
        len(members) - len(usable),
        tuple(sorted(set(sizes), key=lambda size: (-sizes.count(size), size))),
        tuple(sorted({one.kind for one in usable})),
        statistics.fmean(means) if means else None,
        statistics.pstdev(means) if means else None,
        statistics.fmean(one.contrast for one in usable) if usable else None,
    )


def _refusal(train: Sequence[ImageFacts], bit_depth: int) -> str | None:
    """What `train` would say, by what it asks itself."""
    samples = [one.sample for one in train]
    try:
        if any(one.bits > 8 for one in train):
            check_bit_depth(samples, InputSpec(8, 8, bit_depth=bit_depth))
        refuse_untrainable(train, MAX_CORRUPT_SHARE)
        split_good(samples, pixels=[one.pixels for one in train])
    except DataError as error:
        return str(error)
    return None


def _damaged(facts: Iterable[ImageFacts]) -> Iterator[Finding]:
    if damaged := [one for one in facts if one.error is not None]:
        shown = [f"{one.sample.name} ({one.error})" for one in damaged]
        files = tuple(one.sample.name for one in damaged)
        yield Finding("damaged", f"{counted(len(damaged))} that can't be used and are left out: {listed(shown)}", files)


def _leaks(train: Iterable[ImageFacts], test: Iterable[ImageFacts]) -> Iterator[Finding]:
    trained = {one.pixels for one in train}
    if leaks := tuple(one.sample.name for one in test if one.pixels in trained):
        yield Finding("leak", f"{counted(len(leaks), 'test image')} that are trained on too: {listed(leaks)}", leaks)


def _parts(train: Sequence[ImageFacts], test: Sequence[ImageFacts], told: set[str]) -> Iterator[Finding]:
    """Images of one part by their looks, as `train --group auto` finds them, besides those that were told of."""
    labels, _ = part_labels((*train, *test), "auto")
    counts = Counter(labels[: len(train)])
    shared = tuple(one.sample.name for one, label in zip(train, labels, strict=False) if counts[label] > 1)
    if not told.issuperset(shared):
        text = (
            f"{counted(len(train))} to train on show {counted(len(counts), 'part')}, by their looks: {listed(shared)}"
        )
        yield Finding("parts", text, shared)
    of_test = zip(test, labels[len(train) :], strict=True)
    trained = tuple(one.sample.name for one, label in of_test if counts[label])
    if not told.issuperset(trained):
        text = (
            f"{counted(len(trained), 'test image')} of parts that are trained on too, by their looks: "
            f"{listed(trained)}; on new parts there will be more false rejects"
        )
        yield Finding("parts", text, trained)


def _light(groups: Sequence[Group]) -> Iterator[Finding]:
    """Folders whose pictures are brighter or darker, or of another kind of file, than those trained on."""
    reference = next((group for group in groups if group.name == "train/good"), None)
    if reference is None or reference.mean is None or reference.mean_spread is None:
        return
    far = []
    for group in groups:
        if group.mean is None:
            continue
        if abs(group.mean - reference.mean) > max(_SPREADS * reference.mean_spread, _LEAST_LEVELS):
            far.append(f"{group.name} {group.mean:.0f} (contrast {group.contrast:.0f})")
    if far:
        yield Finding(
            "light",
            f"mean grey level of train/good is {reference.mean:.0f} ± {reference.mean_spread:.0f} (contrast "
            f"{reference.contrast:.0f}), but of {', '.join(far)}: other light or exposure passes for a defect, or "
            "hides one",
        )
    if others := [
        f"{group.name} {'/'.join(group.kinds)}" for group in groups if set(group.kinds) - set(reference.kinds)
    ]:
        yield Finding(
            "formats",
            f"train/good is {'/'.join(reference.kinds)}, but {', '.join(others)}: traces of compression pass for a "
            "defect",
        )


def _masks(dataset: Dataset, test: Sequence[ImageFacts]) -> Iterator[Finding]:
    defective = [one for one in test if one.sample.defect is not None]
    masked = [one for one in defective if one.sample.mask_paths]
    odd: defaultdict[str, list[str]] = defaultdict(list)
    for one in masked:
        if one.error is not None:
            continue
        try:
            marked = float(read_whole_mask(one.sample, one.size_hw).mean())
        except DataError as error:
            odd["can't be used"].append(f"{one.sample.name} ({error})")
            continue
        if marked == 0:
            odd["mark nothing"].append(one.sample.name)
        elif marked > _MOST_MARKED:
            odd["mark more than half of the image, as inverted ones do"].append(one.sample.name)
    for what, names in odd.items():
        files = tuple(name.partition(" (")[0] for name in names)
        yield Finding("masks", f"{counted(len(names), 'mask')} that {what}: {listed(names)}", files)
    if masked and (bare := tuple(one.sample.name for one in defective if not one.sample.mask_paths)):
        yield Finding("masks", f"{counted(len(bare), 'defective image')} without a mask: {listed(bare)}", bare)
    if marked_good := tuple(os.fspath(path) for path in dataset.good_masks if _marks(path)):
        text = f"{counted(len(marked_good), 'mask')} of good parts that mark something: {listed(marked_good)}"
        yield Finding("masks", text, marked_good)


def _marks(path: Path) -> bool:
    try:
        return bool(read_mask(path).any())
    except DataError:
        return False


def _unused(dataset: Dataset) -> Iterator[Finding]:
    """Files in the dataset's folders that are no part of it, by the reason."""
    samples: tuple[Sample, ...] = (*dataset.train, *dataset.test)
    paths = (path for sample in samples for path in (sample.path, *sample.mask_paths))
    used = {os.path.realpath(path) for path in (*paths, *dataset.good_masks)}
    left: defaultdict[str, list[str]] = defaultdict(list)
    for folder in dataset.folders:
        for parent, subfolders, names in os.walk(folder):
            subfolders.sort()
            for name in sorted(names):
                path = Path(parent, name)
                if os.path.realpath(path) in used:
                    continue
                inside = path.relative_to(folder)
                if any(part.startswith(".") for part in inside.parts):
                    reason = "hidden"
                elif path.suffix.lower() in IMAGE_SUFFIXES:
                    reason = "images in no folder of the layout"
                else:
                    reason = "no images by their endings"
                left[reason].append(os.fspath(inside))
    for reason, names in sorted(left.items()):
        yield Finding("unused", f"{counted(len(names), 'file')} not used, {reason}: {listed(names)}", tuple(names))
