"""Lessons from the monitor page: marked pictures of `run --keep`, the model in use, and its shadow."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.teach.pictures import KeptRecord, kept_pictures, kept_record
from simplenet_edge.runtime.teach.teach import MarkedPictures, Picture, taught_path, teach

__all__ = ["LineTeacher"]

_NAME = re.compile(r"(ng|ok|borderline)/[A-Za-z0-9._-]+")  # as `kept_name` gives them; no way out of the folder


class LineTeacher:
    """Teaches the bundle of a running line and puts what comes of it into the shadow.

    `keep` is the folder of `run --keep`, `loader` what the line's model was loaded with. Only parts of the first recipe
    can be taught here: the shadow is beside that one. The line goes on meanwhile; one lesson at a time.
    """

    def __init__(self, line: Line, loader: ModelLoader, keep: Path, recipe: str) -> None:
        self._line, self._loader, self._keep, self._recipe = line, loader, keep, recipe
        self._started = datetime.now(timezone.utc)
        self._teaching = threading.Lock()

    def teach(self, good: Sequence[str], bad: Sequence[str], by: str) -> str:
        """Teach with pictures by their names in the folder; says what became of it.

        All other rejected parts that are kept must stay rejected. The drift monitor is told of the false rejects, also
        where the lesson is refused. Raises what `teach` and the loading of a model raise, DataError for a picture that
        is not kept, ConfigError for one of another recipe or during another lesson.
        """
        if not by.strip():
            raise ConfigError("say who marks the parts: the lesson's record names them")
        if not self._teaching.acquire(blocking=False):
            raise ConfigError("a lesson is under way; wait for it")
        try:
            bundle = self._line.newest
            spec = bundle.manifest.input
            found = {name: self._find(name) for name in (*good, *bad)}
            good_ones, bad_ones = (
                [Picture(name, read_image(found[name][0], spec.bit_depth)) for name in names] for names in (good, bad)
            )
            marked = MarkedPictures(good_ones, bad_ones, kept_pictures(self._keep, spec, recipe=self._recipe))
            for record in (found[name][1] for name in good):
                if record.wall_time >= self._started:  # another run's frames have the same numbers
                    self._line.false_reject(record.camera, record.frame_id)
            taught, lesson = teach(bundle, marked, taught_path(bundle), by=by.strip())
            detector = dataclasses.replace(self._loader, path=taught.path).load()
            self._line.put_shadow(detector, dataclasses.replace(self._loader, path=bundle.path).load)
        finally:
            self._teaching.release()
        missed = f"; {len(lesson.missed)} bad parts pass" if lesson.missed else ""
        return (
            f"lesson {lesson.number} is in the shadow: {len(good)} parts marked good, {len(bad)} bad{missed}; bundle "
            f"{taught.id} at {taught.path}"
        )

    def _find(self, name: str) -> tuple[Path, KeptRecord]:
        """Where a kept picture of the recipe is, and its record."""
        path = self._keep / f"{name}.png"
        if not _NAME.fullmatch(name) or not path.is_file():
            raise DataError(f"{name}: not among the pictures in {self._keep}; it may have made room for newer ones")
        record = kept_record(path)
        if record.recipe not in (None, self._recipe):
            raise ConfigError(
                f"{name} was judged by recipe {record.recipe}, and only {self._recipe} can be taught here; run: "
                "simplenet-edge teach with that recipe's bundle"
            )
        return path, record
