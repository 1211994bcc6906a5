"""What a bundle was taught: `lessons/<number>/lesson.json` and, beside it, the frames that it was taught with.

Lessons lie in a bundle as any other file does, under its checksums; a version that knows nothing of them runs the
bundle as it is.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import BundleError, ConfigError
from simplenet_edge.spec import from_dict

__all__ = ["LESSON_NAME", "Lesson", "LessonPicture", "lesson_folder", "read_lessons"]

LESSON_NAME = "lesson.json"


@dataclass(frozen=True)
class LessonPicture:
    """A picture of a part that somebody marked, and its score in each precision before the lesson and after it."""

    name: str
    mark: str  # good, or bad
    file: str  # the frame that the engine was given, as PNG in the bundle
    before: dict[str, float]
    after: dict[str, float]


@dataclass(frozen=True)
class Lesson:
    """One lesson: who taught what to which bundle, and what it changed. By precision where it says so."""

    number: int  # from 1
    parent: str  # the id of the bundle that was taught
    created: str  # UTC, ISO 8601
    by: str
    pictures: tuple[LessonPicture, ...]
    kept: int  # other pictures of rejected parts that were looked at: none passes now
    patches: dict[str, int]  # that entered the memory, by precision
    spare: dict[str, int]  # that it still has room for, by precision
    thresholds: dict[str, float]  # by precision; a lesson leaves them as they are
    golden: dict[str, float]  # the largest change of a golden score, by precision

    @property
    def missed(self) -> tuple[LessonPicture, ...]:
        """Parts marked bad that pass in a precision at least: they would be caught by a threshold below their score."""
        return tuple(
            one
            for one in self.pictures
            if one.mark == "bad" and any(score <= self.thresholds[name] for name, score in one.after.items())
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """As indented JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def lesson_folder(number: int) -> str:
    """Where a lesson lies in its bundle."""
    return f"lessons/{number}"


def read_lessons(bundle: Bundle) -> tuple[Lesson, ...]:
    """All lessons of a bundle, the first one first. Raises BundleError for one that is damaged."""
    found: list[Lesson] = []
    while (name := f"{lesson_folder(len(found) + 1)}/{LESSON_NAME}") in bundle.manifest.files:
        found.append(_lesson(bundle, name))
    return tuple(found)


def _lesson(bundle: Bundle, name: str) -> Lesson:
    try:
        values: dict[str, Any] = json.loads(bundle.read_bytes(name))
        pictures = [from_dict(LessonPicture, one) for one in values["pictures"]]
        lesson = from_dict(Lesson, {**values, "pictures": pictures})
    except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise BundleError(f"{bundle.path}: {name} is damaged ({error}); copy the bundle again") from error
    if unknown := [one.file for one in lesson.pictures if one.file not in bundle.manifest.files]:
        raise BundleError(f"{bundle.path}: {name} names {unknown[0]}, which is not in the bundle; copy it again")
    return lesson
