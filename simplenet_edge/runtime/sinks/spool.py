"""Lines that wait on disk for a network that is away, in order, within a bound.

A folder of segments `<number>.jsonl`, and `position`: the first segment and how many bytes of it are delivered. What
was appended survives the end of the program at once, and a power cut but for what the system had not yet written. A
line may come a second time after the program was killed between its delivery and its `commit`; it is never left out.
"""

from __future__ import annotations

import io
import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.files import try_lock, write_bytes

__all__ = ["Spool"]

_SEGMENTS = 8  # the oldest eighth is dropped when it is full
_LEAST_BYTES = 64 * 1024


@dataclass
class _Segment:
    number: int
    size: int = 0
    lines: int = 0
    """Those that are not delivered."""


class Spool:
    """A queue of JSON lines in `folder`, of at most `max_bytes`; for one thread, and one program at a time.

    `lost` counts the lines that were dropped since it was opened: the oldest where it was full, what a power cut left
    unreadable, and what was in the folder when somebody deleted it. Raises SinkError where the disk refuses.
    """

    def __init__(self, folder: Path, max_bytes: int = 64 * 1024 * 1024) -> None:
        if max_bytes < _LEAST_BYTES:
            raise ConfigError(f"a spool needs at least {_LEAST_BYTES} bytes, not {max_bytes}")
        self.folder = folder
        self.lost = 0
        self._max_bytes = max_bytes
        self._segments: deque[_Segment] = deque()
        self._offset = 0  # delivered bytes of the first segment
        self._peeked: list[int] = []  # offsets after each line that was peeked
        self._last: io.FileIO | None = None  # the last segment
        self._position: io.FileIO | None = None  # held locked

    def __len__(self) -> int:
        return sum(segment.lines for segment in self._segments)

    def open(self) -> None:
        """Take the folder, and what an earlier run left in it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)  # results are nobody else's business
            self._position = _lock(self.folder / "position")
            first, self._offset = self._read_position()
            numbers = sorted(int(file.stem) for file in self.folder.glob("*.jsonl") if file.stem.isdecimal())
            while numbers and numbers[0] < first:  # delivered, and the run was killed before it deleted them
                self._path(numbers.pop(0)).unlink()
            if not numbers or numbers[0] != first:
                self._offset = 0
            self._segments = deque(self._load(number, self._offset if number == first else 0) for number in numbers)
            if not self._segments:
                self._segments.append(_Segment(first + 1))
            self._save_position()
        except OSError as error:
            self.close()
            raise SinkError(f"the spool {self.folder} can't be used ({error.strerror}); name another folder") from error

    def close(self) -> None:
        """Give the folder back; what waits stays there."""
        for file in (self._last, self._position):
            if file is not None:
                file.close()
        self._last = self._position = None

    def append(self, line: str) -> None:
        """Put one line at the end: a JSON object, without a line break."""
        self._require_folder()
        data = line.encode() + b"\n"
        assert _is_whole(data)
        try:
            last = self._segments[-1]
            if last.size and last.size + len(data) > self._max_bytes // _SEGMENTS:
                self._segments.append(_Segment(last.number + 1))
                self._close_last()
            while len(self._segments) > 1 and (
                not self._segments[0].lines or sum(s.size for s in self._segments) + len(data) > self._max_bytes
            ):
                self.lost += self._segments[0].lines
                self._delete_first()
            self._write(self._segments[-1], data)
        except OSError as error:
            raise self._refused(error) from error

    def peek(self, most: int) -> list[str]:
        """The oldest lines, up to `most` of them; they stay until `commit`. Empty where nothing waits."""
        self._require_folder()
        self._peeked = []
        if not len(self):
            return []
        lines: list[str] = []
        try:
            while not self._segments[0].lines:
                self._delete_first()
            with self._path(self._segments[0].number).open("rb") as file:
                file.seek(self._offset)
                while len(lines) < most and (data := file.readline()):
                    lines.append(data.decode().rstrip("\n"))
                    self._peeked.append(file.tell())
        except OSError as error:
            raise self._refused(error) from error
        return lines

    def commit(self, count: int) -> None:
        """Forget the first `count` of the lines that `peek` gave last; nothing may be appended in between."""
        if not count:
            return
        self._segments[0].lines -= count
        self._offset = self._peeked[count - 1]
        try:
            self._save_position()
        except OSError as error:
            raise self._refused(error) from error

    def _require_folder(self) -> None:
        """Begin anew where somebody has deleted or replaced the folder: what waited there is lost."""
        assert self._position is not None, "open it first"
        try:
            if os.path.samestat(os.fstat(self._position.fileno()), os.stat(self.folder / "position")):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise self._refused(error) from error
        self.lost += len(self)
        self.close()
        self.open()

    def _delete_first(self) -> None:
        """Another one follows it."""
        segment = self._segments.popleft()
        self._offset = 0
        self._save_position()
        self._path(segment.number).unlink(missing_ok=True)

    def _write(self, segment: _Segment, data: bytes) -> None:
        """All of it or, where the disk is full, nothing."""
        if self._last is None:
            self._last = io.FileIO(self._path(segment.number), "a")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._last.write(rest) :]
        except OSError:
            with suppress(OSError):
                self._last.truncate(segment.size)
            raise
        segment.size += len(data)
        segment.lines += 1

    def _load(self, number: int, start: int) -> _Segment:
        """What waits in a segment; a line that a power cut left half-written is taken out."""
        path = self._path(number)
        data = path.read_bytes()
        lines = data[start:].splitlines(keepends=True)
        whole = [line for line in lines if _is_whole(line) and _is_json(line)]
        if len(whole) != len(lines):
            self.lost += len(lines) - len(whole)
            data = data[:start] + b"".join(whole)
            write_bytes(path, data)
        elif start > len(data):  # a power cut took what was delivered already
            self._offset = len(data)
        return _Segment(number, len(data), len(whole))

    def _read_position(self) -> tuple[int, int]:
        """Segment and offset; zeros where it can't be read: then the first segment is delivered once more."""
        assert self._position is not None
        try:
            self._position.seek(0)
            number, offset = self._position.read(100).split()
            return int(number), int(offset)
        except ValueError:
            return 0, 0

    def _save_position(self) -> None:
        # Always of one length and written in place: a rename would make some file systems wait for the disk.
        assert self._position is not None
        self._position.seek(0)
        self._position.write(f"{self._segments[0].number:08d} {self._offset:016d}\n".encode())

    def _close_last(self) -> None:
        if self._last is not None:
            self._last.close()
            self._last = None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.jsonl"

    def _refused(self, error: OSError) -> SinkError:
        return SinkError(f"the spool {self.folder} can't be used ({error.strerror}); free some space there")


def _is_whole(data: bytes) -> bool:
    """A JSON object on one line, by its ends: a power cut leaves half a line, or zeros."""
    return data.startswith(b"{") and data.endswith(b"}\n")


def _is_json(line: bytes) -> bool:
    """Two halves of lines with a power cut's zeros between them have the right ends."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lock(path: Path) -> io.FileIO:
    """Held until the file is closed, also by the end of the program."""
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    if not try_lock(file):
        file.close()
        raise ConfigError(f"{path.parent} is the spool of another run; name a folder for each")
    return file
