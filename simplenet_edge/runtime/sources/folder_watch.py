"""A folder that images arrive in: each file once, when it is complete, in the order in which they are."""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import decode_image, read_encoded
from simplenet_edge.imaging.folder import image_files
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.files import natural_order

__all__ = ["WatchedFolder"]

_log = logging.getLogger(__name__)

_MARKED_SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})  # a missing end tells an image that is cut off
_REPORT_S = 1.0
_LOOK_SHARE = 4  # the pause after a look, in times of how long the look took: a large folder must not fill a core


class _State(NamedTuple):
    """A file as `stat` sees it. Whatever time a program sets, `touched_ns` tells that it was there."""

    inode: int
    size: int
    changed_ns: int
    touched_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> _State:
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def is_touched(self, before: _State) -> bool:
        """Whether all that is known to have changed is the time or the rights; only its content tells then."""
        return self[:2] == before[:2] and self.changed_ns <= before.changed_ns


@dataclass
class _Arrival:
    """A file as last seen, since when it looks so, and whether it was given.

    `content` is the hash of what was given last: a program that only sets times afterwards has made no new image.
    """

    state: _State
    since_s: float
    content: bytes | None = None
    given: bool = False


class WatchedFolder(Source):
    """New images of a folder and its subfolders; none is dropped, however slow the line is.

    A JPEG or PNG is complete when its end is there, any other file when it hasn't changed for `settle_s`. One that
    can't be decoded is tried again, and becomes an error record when it hasn't changed for `settle_s`. A file written
    again under the same name is a new one, whatever its time. Hidden files are left alone: programs write them before
    they rename them.
    """

    on_demand: ClassVar[bool] = True

    def __init__(self, path: Path, existing: bool = False, poll_s: float = 0.1, settle_s: float = 2.0) -> None:
        super().__init__(str(path))
        self.folder: Path = path
        self._existing = existing
        self._poll_s, self._settle_s = poll_s, settle_s
        self._seen: dict[str, _Arrival] | None = None
        self._was_mounted: bool | None = None  # None until it could be read
        self._opened_ns = 0
        self._told_s = -math.inf
        self._passed_over: set[str] = set()  # endings of files that are no images

    def _open(self) -> None:
        self._seen = {}
        self._opened_ns = time.time_ns()
        try:
            faults = self._look(self._seen)
        except OSError as error:
            faults = [error]
        else:
            for arrival in self._seen.values():
                arrival.given = not self._existing
        if faults and not self.patient:
            raise SourceError(
                f"watch:{faults[0].filename or self.folder}: can't be read ({faults[0].strerror}); create it, name the "
                "folder that images arrive in, or check permissions"
            ) from faults[0]

    def _close(self) -> None:
        self._seen = None

    def __iter__(self) -> Iterator[FrameRecord]:
        if self._seen is None:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        frame_id = 0
        looked_s = 0.0
        while not self.stopping.wait(max(self._poll_s, _LOOK_SHARE * looked_s)):
            started_s = time.monotonic()
            try:
                faults = self._look(self._seen)
            except OSError as error:
                faults, complete = [error], []
            else:
                complete = self._complete(self._seen)
            looked_s = time.monotonic() - started_s
            if not faults:
                self._is_back()
            elif (text := self._away(faults[0])) is not None:
                yield FrameRecord(frame_id, f"{self.name}#{frame_id}", utc_now(), None, text)
                frame_id += 1
            for name, arrival in complete:
                record = self._record(frame_id, name, arrival)
                if record is not None:
                    arrival.given = True
                    yield record
                    frame_id += 1
                if self.stopping.is_set():
                    return

    def _away(self, error: OSError) -> str | None:
        """What to say about what can't be read; at once, and then about once a second."""
        place = error.filename or self.folder
        if self.connected:
            _log.warning("%s: %s can't be read: %s", self.name, place, error.strerror)
        self.connected = False
        if time.monotonic() - self._told_s < _REPORT_S:
            return None
        self._told_s = time.monotonic()
        return f"watch:{place} can't be read ({error.strerror}); check that the folder is there and mounted"

    def _is_back(self) -> None:
        if not self.connected:
            _log.warning("%s can be read again", self.name)
            self.connected, self._told_s = True, -math.inf
            self.reconnects += 1

    def _look(self, seen: dict[str, _Arrival]) -> list[OSError]:
        """Bring `seen` up to date: new and changed files are to be given, those that are gone are forgotten.

        Gives what can't be read in the folder; what is known of that stays. Raises OSError where that is the folder.
        """
        is_mounted = os.path.ismount(self.folder)
        if self._was_mounted and not is_mounted:
            raise OSError(errno.ENODEV, "it is not mounted")  # else its files would be new ones when it is back
        unreadable: list[OSError] = []
        others: list[Path] = []
        found = {str(path): stat for path, stat in image_files(self.folder, others, unreadable)}
        for other in others:
            if other.suffix not in self._passed_over:
                self._passed_over.add(other.suffix)
                _log.warning("%s: passed over as no image, like all %r files: %r", self.name, other.suffix, other.name)
        now_s = time.monotonic()
        for path, stat in found.items():
            known, state = seen.get(path), _State.of(stat)
            if known is None or known.state != state:
                seen[path] = _Arrival(state, now_s, known.content if known and state.is_touched(known.state) else None)
        if self._was_mounted is None and not self._existing:  # else a share that was away would bring all its past
            for arrival in seen.values():
                arrival.given = arrival.state.changed_ns < self._opened_ns
            if n_old := sum(arrival.given for arrival in seen.values()):
                _log.info("%s: %d images are older than this run and left alone; see existing=1", self.name, n_old)
        self._was_mounted = is_mounted
        hidden = tuple(os.path.join(error.filename, "") for error in unreadable)
        for path in [path for path, arrival in seen.items() if path not in found and arrival.given]:
            if not os.path.join(path, "").startswith(hidden):
                del seen[path]
        return unreadable

    def _complete(self, seen: dict[str, _Arrival]) -> list[tuple[str, _Arrival]]:
        """What is to be given now, oldest first."""
        ready = []
        for path, arrival in seen.items():
            marked = Path(path).suffix.lower() in _MARKED_SUFFIXES
            if not arrival.given and time.monotonic() - arrival.since_s >= (0.0 if marked else self._settle_s):
                ready.append((path, arrival))
        return sorted(ready, key=lambda item: (item[1].since_s, item[1].state.changed_ns, natural_order(Path(item[0]))))

    def _record(self, frame_id: int, path: str, arrival: _Arrival) -> FrameRecord | None:
        """The file as a record; None where it may still grow, and where it is the image that was given last."""
        file = Path(path)
        name = file.relative_to(self.folder).as_posix()
        try:
            before = _State.of(file.stat())
            data = read_encoded(file)
            content = hashlib.blake2b(data, digest_size=16).digest()
            arrival.given = content == arrival.content
            if arrival.given:
                return None
            image = decode_image(data, self.bit_depth)
            if _State.of(file.stat()) != before:
                return None  # which of its states was read is not known
            arrival.state, arrival.content = before, content
            return FrameRecord(frame_id, name, utc_now(), image, monotonic_s=arrival.since_s)
        except (DataError, OSError) as error:
            if time.monotonic() - arrival.since_s < self._settle_s:
                return None
            why = f"{file}: {error}" if isinstance(error, DataError) else f"{file} can't be read ({error.strerror})"
            return FrameRecord(frame_id, name, utc_now(), None, why)
