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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.bundle import Bundle, golden_files, require_place, write_bundle
from simplenet_edge.contract import COORDINATES, FRAMES, MAP, SCORE
from simplenet_edge.engines.onnxruntime import cpu_session
from simplenet_edge.errors import DataError, LessonRefused
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.runtime.detector import engine_frame
from simplenet_edge.runtime.teach.graph_memory import GraphMemory, Rows, with_coordinates
from simplenet_edge.runtime.teach.lesson import LESSON_NAME, Lesson, LessonPicture, lesson_folder, read_lessons
from simplenet_edge.spec import Frames, Prediction

__all__ = ["MarkedPictures", "Picture", "taught_path", "teach"]

_TRIES = ((1.0, 2.0), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0))
"""Which patches are learned: those whose values are above a share of the way from the median good score to the
threshold, and how far they are apart at least, in the least distance that counts. As few as suffice."""
_VIEWS = 4  # of each part
_NAMED = 5  # pictures that a message names


class Picture(NamedTuple):
    """An image uint8 `(H0, W0, 3)` BGR of a part, and what to call it."""

    name: str
    image: Frames


@dataclass(frozen=True)
class MarkedPictures:
    """What is taught: `good` parts that were rejected, `bad` parts, and `kept` pictures of parts that were rejected.

    None of the `kept` is marked: each counts as bad, unless it is one of the good ones.
    """

    good: Sequence[Picture]
    bad: Sequence[Picture] = ()
    kept: Sequence[Picture] = ()


class _Seen(NamedTuple):
    """What a graph says of one frame: its score, its map `(H, W)`, and its patches `(d, h, w)`."""

    score: float
    map: npt.NDArray[np.float32]
    patches: npt.NDArray[np.float32]


class _Student:
    """A graph that says of a frame what it thinks, and how it sees the patches."""

    def __init__(self, graph: bytes) -> None:
        self.graph = graph
        self.memory = GraphMemory(graph)
        self._session = cpu_session(with_coordinates(graph))

    def look(self, frame: Frames) -> _Seen:
        """One frame uint8 `(H, W, 3)`."""
        score, maps, patches = self._session.run([SCORE, MAP, COORDINATES], {FRAMES: frame[np.newaxis]})
        return _Seen(float(score[0]), maps[0], patches[0])


@dataclass(frozen=True)
class _Taught:
    """A precision before and after the lesson, and what it says of the frames of each group then."""

    threshold: float
    old: _Student
    before: dict[str, list[_Seen]]
    new: _Student
    after: dict[str, list[_Seen]]

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
    manifest = dataclasses.replace(bundle.manifest, created=created)
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
    good, bad, kept = (
        [Picture(name, engine_frame(image, bundle)) for name, image in group]
        for group in (marked.good, marked.bad, marked.kept)
    )
    known = [{frame.tobytes() for _, frame in group} for group in (good, bad)]
    if both := [name for name, frame in bad if frame.tobytes() in known[0]]:
        raise DataError(f"{', '.join(both[:_NAMED])}: marked good and bad; mark each picture once")
    kept = [one for one in kept if not any(one.image.tobytes() in frames for frames in known)]
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
    before = {name: _look(student, groups) for name, student in old.items()}
    limits = {name: bundle.record(name).operating_point.threshold for name in family}

    def rejected(seen: Mapping[str, Sequence[_Seen]]) -> list[int]:
        """Which good ones are rejected in any of the precisions."""
        return sorted({i for name, ones in seen.items() for i, one in enumerate(ones) if one.score > limits[name]})

    wrong = rejected({name: seen["good"] for name, seen in before.items()})
    new, after, left = old, before, wrong
    views = [view for i in wrong for view in _views(groups["good"][i].image, before[family[0]]["good"][i])]
    shown = {name: [student.look(view) for view in views] for name, student in old.items()}
    leader, median = family[0], bundle.record(family[0]).score_statistics.median
    for share, apart in _TRIES if wrong else ():
        cells = _cells_above(shown[leader], median + share * (limits[leader] - median))
        rows = {
            name: np.concatenate([one.patches[:, of].T for one, of in zip(seen, cells, strict=True)])
            for name, seen in shown.items()
        }
        chosen = _thinned(rows[leader], apart * old[leader].memory.floor)
        if len(chosen) > (room := min(student.memory.spare for student in old.values())):
            raise LessonRefused(
                f"the memory has room for {room} more patches, and these parts have {len(chosen)} that it must learn: "
                "mark fewer, or train again with the pictures of all lessons"
            )
        new = {name: _Student(student.memory.with_patches(rows[name][chosen])) for name, student in old.items()}
        after = {name: _look(student, groups) for name, student in new.items()}
        if not (left := rejected({name: seen["good"] for name, seen in after.items()})):
            break
    if left:
        names = [groups["good"][i].name for i in left]
        raise LessonRefused(
            f"{', '.join(names[:_NAMED])}: still rejected when every patch of theirs is known; train again with them",
            names,
        )
    return {name: _Taught(limits[name], old[name], before[name], new[name], after[name]) for name in family}


def _look(student: _Student, groups: Mapping[str, Sequence[Picture]]) -> dict[str, list[_Seen]]:
    return {group: [student.look(frame) for _, frame in ones] for group, ones in groups.items()}


def _views(frame: Frames, seen: _Seen) -> list[Frames]:
    """A frame as it is, and moved by quarters of the way from one patch to the next, its edges repeated.

    The memory sees patches at fixed places, and no part lies twice in just the same one.
    """
    height, width = frame.shape[:2]
    rows, columns = seen.patches.shape[1:]
    moved = []
    for i in range(_VIEWS):
        down, right = round(i * height / rows / _VIEWS), round(i * width / columns / _VIEWS)
        wider = cv2.copyMakeBorder(frame, down, 0, right, 0, cv2.BORDER_REPLICATE)
        moved.append(np.ascontiguousarray(wider[:height, :width], np.uint8))
    return moved


def _cells_above(views: Sequence[_Seen], level: float) -> list[npt.NDArray[np.bool_]]:
    """The patches bool `(h, w)` of frames, in whose neighbourhood their maps are above a level.

    `views` are those of `_views`, frame after frame: of a moved one only where the frame itself has such patches, which
    its repeated edge may have as well.
    """
    found = []
    for i, seen in enumerate(views):
        (height, width), (rows, columns) = seen.map.shape, seen.patches.shape[1:]
        reach_hw = -(-height // rows), -(-width // columns)  # one patch to each side
        highest = np.asarray(cv2.dilate(seen.map, np.ones((2 * reach_hw[0] + 1, 2 * reach_hw[1] + 1), np.uint8)))
        y, x = (((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((rows, height), (columns, width)))
        above = np.asarray(highest[np.ix_(y, x)] > level)
        if i % _VIEWS == 0:
            near = cv2.dilate(above.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        found.append(above & near)
    return found


def _thinned(rows: Rows, apart: float) -> list[int]:
    """Indices of rows that are `apart`, each the farthest from those before; all others are nearer to one of them."""
    chosen: list[int] = []
    distances = np.full(len(rows), np.inf)
    while len(chosen) < len(rows) and distances.max() > apart:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
    return chosen


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
        if before.score > one.threshold >= after.score
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
            before = {precision: one.before[mark][i].score for precision, one in taught.items()}
            after = {precision: one.after[mark][i].score for precision, one in taught.items()}
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
        score, maps = zip(*((seen.score, seen.map) for seen in one.after["golden"]), strict=True)
        said = Prediction(np.array(score, np.float32), np.stack(maps))
        if name in own:
            own[name] = said
        elif name == "fp32":
            fp32 = said
    return {**files, **golden_files(frames, fp32, own)}


def _largest_change(one: _Taught) -> float:
    """Of a golden score."""
    pairs = zip(one.before["golden"], one.after["golden"], strict=True)
    return max(abs(after.score - before.score) for before, after in pairs)
