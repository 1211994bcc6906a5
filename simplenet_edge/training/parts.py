"""The parts that a run's images show: found before the split, and looked for among test images later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simplenet_edge.data.facts import ImageFacts, gather_facts
from simplenet_edge.data.findings import counted
from simplenet_edge.data.groups import known_labels, part_labels
from simplenet_edge.data.near_duplicates import near_duplicates
from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import DataError
from simplenet_edge.progress import OnMessage, Progress, ignore
from simplenet_edge.training.run import TrainingRun

__all__ = ["find_parts", "parts_in_training"]

_log = logging.getLogger(__name__)


def find_parts(facts: Sequence[ImageFacts], group: str, on_message: OnMessage) -> dict[str, str]:
    """The part of each image by its name. `on_message` is told what `auto` found. Raises as `part_labels` does."""
    labels, kinds = part_labels(facts, group)
    n_parts = len(set(labels))
    if group == "auto" and n_parts < len({one.pixels for one in facts}):
        on_message(
            f"parts: {len(facts)} images are of {n_parts} parts, by their looks; those of one part stay on one side of "
            "the split, and the guarantee counts parts. --group none undoes it"
        )
    if kinds:
        on_message(
            f"parts: {counted(kinds)} look alike in groups too large, or too near to others, for one part, and count "
            "as parts of their own; where they show fewer parts, say which with --group"
        )
    return {one.sample.name: label for one, label in zip(facts, labels, strict=True)}


def parts_in_training(
    run: TrainingRun, samples: Sequence[Sample], progress: Progress = ignore
) -> tuple[str, ...] | None:
    """The names of those samples that show a part which the run was trained or calibrated on.

    By the names of the images or the list that said so at training, otherwise by their looks. None where the run says
    nothing of parts, or its list can't be read any more. Raises WeightsError for a damaged run.
    """
    parts = run.record.parts
    if parts is None or parts.rule == "none":
        return None
    if parts.rule == "auto":
        trained = run.descriptors
        if trained is None:
            return None
        facts = gather_facts(samples, run.model.input_spec.bit_depth, progress)
        tested = [one.descriptor for one in facts]
        groups = near_duplicates(np.concatenate([trained, np.stack(tested)]) if tested else trained).groups
        known = set(groups[: len(trained)])
        return tuple(
            sample.name for sample, group in zip(samples, groups[len(trained) :], strict=True) if group in known
        )
    own = {**parts.train, **parts.calibration}
    trained_on = [Sample(Path(name), name=name) for name in own]  # whose files' names are taken
    try:
        found = known_labels([*samples, *trained_on], parts.rule)
    except DataError as error:
        _log.warning("whether test images show parts that were trained on is not known: %s", error)
        return None
    used = set(own.values())
    return tuple(sample.name for sample in samples if found.get(sample.name) in used)
