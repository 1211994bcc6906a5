"""Teach a bundle that parts it rejects are good: their patches enter its memory, and nothing else changes.

In: pictures uint8 `(H0, W0, 3)` BGR of parts that somebody marked. Out: another bundle, beside the one that was taught.

A patch that was taught can only bring others nearer to what is known, so that no score of any part rises. So the
threshold stays, and what it guarantees holds as before: a good part is rejected no more often than it was. What a
lesson costs is that bad parts like the marked ones may pass, too; known ones are held against it, and a lesson that
lets one pass is refused.

Embeddings and scores are computed by ONNX Runtime on the CPU, from the graph itself, in every precision of the bundle:
the engine of the line goes on with its frames meanwhile. A TensorRT plan is of one graph: the new bundle needs a new
one, which `build`, or the first load, makes.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from simplenet_edge.bundle import Bundle, golden_files, require_place, write_bundle
from simplenet_edge.contract import COORDINATES, FRAMES, MAP, SCORE, one_line
from simplenet_edge.engines.onnxruntime import cpu_session
from simplenet_edge.errors import DataError, EngineError, EngineInputError, LessonRefused, SimpleNetEdgeError
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.runtime.detector import engine_frame
from simplenet_edge.runtime.teach.choice import Seen, cells_above, moved_copies, thinned
from simplenet_edge.runtime.teach.graph_memory import GraphMemory, with_coordinates
from simplenet_edge.runtime.teach.lesson import LESSON_NAME, Lesson, LessonPicture, lesson_folder, read_lessons
from simplenet_edge.spec import Frames, Prediction

__all__ = ["MarkedPictures", "Picture", "taught_path", "teach"]

_log = logging.getLogger(__name__)

_TRIES = ((1.0, 2.0), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0))
"""Which patches are learned: those whose values are above a share of the way from the median good score to the
threshold, and how far they are apart at least, in the least distance that counts. As few as suffice."""
_KEPT_BYTES = 2**29  # frames of kept pictures, together
_NAMED = 5  # pictures that a message names


class Picture(NamedTuple):
    """An image uint8 `(H0, W0, 3)` BGR of a part, and what to call it."""

    name: str
    image: Frames


@dataclass(frozen=True)
class MarkedPictures:
    """What is taught: `good` parts that were rejected, `bad` parts, and `kept` pictures of parts that were rejected.

    None of the `kept` is marked: each counts as bad, unless it is one of the good ones. They are read one by one, as
    long as there is room for their frames; one that the bundle does not take is passed over.
    """

    good: Sequence[Picture]
    bad: Sequence[Picture] = ()
    kept: Iterable[Picture] = ()


class _Student:
    """A graph that says of a frame what it thinks, and how it sees the patches."""

    def __init__(self, graph: bytes) -> None:
        self.graph = graph
        self.memory = GraphMemory(graph)
        with _said_by_onnxruntime():
            self._session = cpu_session(with_coordinates(graph), threads=1)  # the line needs the others

    def score(self, frame: Frames) -> float:
        """Of one frame uint8 `(H, W, 3)`."""
        with _said_by_onnxruntime():
            return float(self._session.run([SCORE], {FRAMES: frame[np.newaxis]})[0][0])

    def look(self, frame: Frames) -> Seen:
        """All that it says of the frame."""
        with _said_by_onnxruntime():
            score, maps, patches = self._session.run([SCORE, MAP, COORDINATES], {FRAMES: frame[np.newaxis]})
            return Seen(float(score[0]), maps[0], patches[0])

    def look_around(self, frame: Frames) -> list[Seen]:
        """The same, and of its `moved_copies`."""
        seen = self.look(frame)
        return [seen, *map(self.look, moved_copies(frame, seen))]


@contextmanager
def _said_by_onnxruntime() -> Iterator[None]:
    try:
        yield
    except SimpleNetEdgeError:
        raise
    except Exception as error:  # its own classes share no base but Exception
        raise EngineError(f"ONNX Runtime can't run the bundle's graph ({one_line(error)}); export again") from error


@dataclass(frozen=True)
class _Taught:
    """A precision before and after the lesson, and how it scores the frames of each group then."""

    threshold: float
    old: _Student
    before: dict[str, list[float]]
    new: _Student
    after: dict[str, list[float]]

    @property
    def patches(self) -> int:
        """How many entered the memory."""
        return self.new.memory.size - self.old.memory.size


def teach(
    bundle: Bundle,
    marked: MarkedPictures,
    path: Path,
    *,
    by: str,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> tuple[Bundle, Lesson]:
    """Write at `path` what `bundle` becomes when it learns that the good parts are good, with its record.

    What was measured of the model before the lesson, on labelled images or drawn defects, stays with the old bundle.
    Bad parts that pass already change nothing: they are kept as evidence (`Lesson.missed`). Where no part was marked
    good the graphs stay as they are. Raises LessonRefused where all good ones pass already, can't be learned, or have
    more patches than there is room for, and where a bad part, a kept one or the golden frame of noise that is rejected
    would pass then; DataError for no picture at all, EngineInputError for pictures that the bundle does not take,
    BundleError for one that has no memory, or where `path` is taken.
    """
    require_place(path, overwrite)
    if not marked.good and not marked.bad:
        raise DataError("expected pictures of parts that are marked good or bad, found none")
    number, now = len(read_lessons(bundle)) + 1, datetime.datetime.now(datetime.timezone.utc)
    groups = _groups(bundle, marked)
    taught: dict[str, _Taught] = {}
    families = _families(bundle)
    for done, family in enumerate(families):
        progress("teaching", done, len(families))
        taught |= _teach(bundle, family, groups)
    progress("teaching", len(families), len(families))
    if marked.good and not any(one.patches for one in taught.values()):
        raise LessonRefused("there is nothing to learn: all parts that are marked good pass already")
    _require_caught(taught, groups)
    created = now.isoformat(timespec="seconds")
    pictures, files = _evidence(number, taught, groups)
    lesson = Lesson(
        number=number,
        parent=bundle.id,
        created=created,
        by=by,
        pictures=pictures,
        kept=len(groups["kept"]),
        patches={name: one.patches for name, one in taught.items()},
        spare={name: one.new.memory.spare for name, one in taught.items()},
        thresholds={name: one.threshold for name, one in taught.items()},
        golden={name: _largest_change(one) for name, one in taught.items()},
    )
    files[f"{lesson_folder(number)}/{LESSON_NAME}"] = lesson.to_json().encode()
    records = {  # what was measured of the model before says nothing of this one
        name: dataclasses.replace(record, metrics={} if taught[name].patches else record.metrics)
        for name, record in bundle.manifest.precisions.items()
    }
    manifest = dataclasses.replace(bundle.manifest, created=created, precisions=records)
    return write_bundle(path, manifest, {**_rewritten(bundle, taught), **files}, overwrite), lesson


def taught_path(bundle: Bundle) -> Path:
    """Where the next lesson's bundle goes, beside the one that is taught: NAME-lesson1, or with .zip behind it."""
    path = bundle.path.absolute()
    suffix = ".zip" if path.suffix == ".zip" else ""
    stem = re.sub("-lesson[0-9]+$", "", path.name.removesuffix(suffix))
    number = len(read_lessons(bundle)) + 1
    while (beside := path.with_name(f"{stem}-lesson{number}{suffix}")).exists():
        number += 1
    return beside


def _groups(bundle: Bundle, marked: MarkedPictures) -> dict[str, list[Picture]]:
    """The pictures as the engine takes them, and the golden frames; one that is kept and marked counts as marked."""
    good, bad = (
        [Picture(name, engine_frame(image, bundle)) for name, image in group] for group in (marked.good, marked.bad)
    )
    marked_good, marked_bad = ({frame.tobytes() for _, frame in group} for group in (good, bad))
    if both := [name for name, frame in bad if frame.tobytes() in marked_good]:
        raise DataError(f"{', '.join(both[:_NAMED])}: marked good and bad; mark each picture once")
    known, kept, room = marked_good | marked_bad, [], _KEPT_BYTES
    for name, image in marked.kept:
        try:
            frame = engine_frame(image, bundle)
        except EngineInputError as error:
            _log.warning("%s is not held against the lesson: %s", name, error)
            continue
        if (room := room - frame.nbytes) < 0:
            break
        if frame.tobytes() not in known:
            kept.append(Picture(name, frame))
    golden = [Picture(f"golden frame {i}", frame) for i, frame in enumerate(bundle.golden()[0])]
    return {"good": good, "bad": bad, "kept": kept, "golden": golden}


def _families(bundle: Bundle) -> list[list[str]]:
    """The precisions that are one model, rounded, and so must learn the same; FP32's come first."""
    rounded = [name for name in bundle.manifest.precisions if name != "fp32" and not bundle.has_own_golden(name)]
    return [["fp32", *rounded], *([name] for name in bundle.manifest.precisions if bundle.has_own_golden(name))]


def _teach(bundle: Bundle, family: Sequence[str], groups: Mapping[str, Sequence[Picture]]) -> dict[str, _Taught]:
    """What becomes of the precisions of one model. Raises LessonRefused where it can't learn the good ones.

    The first of them says which patches are learned; each learns how it sees those itself.
    """
    old = {name: _Student(bundle.graph(name)) for name in family}
    limits = {name: bundle.record(name).operating_point.threshold for name in family}

    def rejected(students: Mapping[str, _Student]) -> list[Picture]:
        """The good ones that are rejected in any of the precisions."""
        return [
            one
            for one in groups["good"]
            if any(student.score(one.image) > limits[name] for name, student in students.items())
        ]

    wrong = left = rejected(old)
    new, leader, median = old, family[0], bundle.record(family[0]).score_statistics.median
    shown = {name: [seen for one in wrong for seen in student.look_around(one.image)] for name, student in old.items()}
    room = min(student.memory.spare for student in old.values())
    for share, apart in _TRIES if wrong else ():
        cells = cells_above(shown[leader], median + share * (limits[leader] - median))
        rows = {
            name: np.concatenate([one.patches[:, of].T for one, of in zip(seen, cells, strict=True)])
            for name, seen in shown.items()
        }
        chosen = thinned(rows[leader], apart * old[leader].memory.floor)[:room]  # in the order of what they add
        new = {name: _Student(student.memory.with_patches(rows[name][chosen])) for name, student in old.items()}
        if not (left := rejected(new)):
            break
    if left:
        names = [one.name for one in left]
        why = (
            f"there is room for {room} more patches, and they need more"
            if len(chosen) == room
            else "every patch of theirs is known"
        )
        raise LessonRefused(
            f"{', '.join(names[:_NAMED])}: still rejected although {why}; train again with the pictures of all lessons",
            names,
        )
    return {
        name: _Taught(limits[name], old[name], _scores(old[name], groups), new[name], _scores(new[name], groups))
        for name in family
    }


def _scores(student: _Student, groups: Mapping[str, Sequence[Picture]]) -> dict[str, list[float]]:
    return {group: [student.score(frame) for _, frame in ones] for group, ones in groups.items()}


def _require_caught(taught: Mapping[str, _Taught], groups: Mapping[str, Sequence[Picture]]) -> None:
    """Raise LessonRefused where a part that was rejected, and is not marked good, passes after the lesson."""
    first = {"bad": 0, "kept": 0, "golden": len(groups["golden"]) - 1}  # only the last golden frame is no good part
    passing = {
        picture.name: None
        for one in taught.values()
        for group, at in first.items()
        for picture, before, after in zip(
            groups[group][at:], one.before[group][at:], one.after[group][at:], strict=True
        )
        if before > one.threshold >= after
    }
    if passing:
        more = f" and {len(passing) - _NAMED} more" if len(passing) > _NAMED else ""
        raise LessonRefused(
            f"rejected parts that are not marked good would pass: {', '.join(list(passing)[:_NAMED])}{more}; mark them "
            "good as well if they are, otherwise leave out what looks like them",
            [*passing],
        )


def _evidence(
    number: int, taught: Mapping[str, _Taught], groups: Mapping[str, Sequence[Picture]]
) -> tuple[tuple[LessonPicture, ...], dict[str, bytes]]:
    """The marked pictures as the lesson's record names them, and their frames as files of the bundle."""
    pictures, files = [], {}
    for mark in ("good", "bad"):
        for i, (name, frame) in enumerate(groups[mark]):
            file = f"{lesson_folder(number)}/{mark}-{i + 1}.png"
            encoded, data = cv2.imencode(".png", frame)
            assert encoded
            files[file] = data.tobytes()
            before = {precision: one.before[mark][i] for precision, one in taught.items()}
            after = {precision: one.after[mark][i] for precision, one in taught.items()}
            pictures.append(LessonPicture(name, mark, file, before, after))
    return tuple(pictures), files


def _rewritten(bundle: Bundle, taught: Mapping[str, _Taught]) -> dict[str, bytes]:
    """The files of the bundle with the graphs as taught, and what these say of the golden frames."""
    files = {name: bundle.read_bytes(name) for name in bundle.manifest.files}
    frames, fp32 = bundle.golden()
    own = {name: bundle.golden(name)[1] for name in taught if bundle.has_own_golden(name)}
    for name, one in taught.items():
        if one.patches == 0:
            continue
        files[bundle.record(name).graph] = one.new.graph
        seen = [one.new.look(frame) for frame in frames]
        said = Prediction(np.array([of.score for of in seen], np.float32), np.stack([of.map for of in seen]))
        if name in own:
            own[name] = said
        elif name == "fp32":
            fp32 = said
    return {**files, **golden_files(frames, fp32, own)}


def _largest_change(one: _Taught) -> float:
    """Of a golden score."""
    pairs = zip(one.before["golden"], one.after["golden"], strict=True)
    return max(abs(after - before) for before, after in pairs)
