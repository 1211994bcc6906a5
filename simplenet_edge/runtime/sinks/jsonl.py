"""Results as JSON lines, for machines: times in milliseconds, raw scores, UTC in ISO 8601."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.files import try_lock
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink

__all__ = ["JsonlSink"]

_log = logging.getLogger(__name__)


class JsonlSink(Sink):
    """One JSON object a frame and line; appended to `path`, or to standard output for None.

    A line has left the program when `write` returns, whole or not at all. It survives the end of the program at once,
    and a power cut when it is synced: with `fsync_s` None whenever the system gets to it (on Linux within about 30 s),
    with 0 before `write` returns, with 5 within about 5 s. A last line that an earlier run left half-written is ended
    first, so that it spoils no other.

    One program writes to a file: a second one is refused while the first holds it. Where another program, such as
    logrotate, renames, deletes or cuts the file, the next line goes where it belongs; what others append stays.

    Before the file would grow past `rotate_bytes` it is renamed to `<path>.1`, what was there to `<path>.2` and so on,
    and the file after `<path>.<keep>` is deleted; None lets it grow.
    """

    def __init__(
        self, path: Path | None, *, rotate_bytes: int | None = None, keep: int = 5, fsync_s: float | None = None
    ) -> None:
        if rotate_bytes is not None and rotate_bytes < 1:
            raise ConfigError(f"rotate_bytes must be at least 1, not {rotate_bytes}")
        if keep < 1:
            raise ConfigError(f"keep must be at least 1 file, not {keep}")
        if fsync_s is not None and not fsync_s >= 0:
            raise ConfigError(f"fsync_s must be seconds from 0 on, or None, not {fsync_s}")
        if path is None and (rotate_bytes is not None or fsync_s is not None):
            raise ConfigError("standard output can't be rotated or synced; name a file")
        self.path = path
        self.name = "standard output" if path is None else str(path)
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._fsync_s = fsync_s
        self._file: io.FileIO | None = None
        self._unsynced_since: float | None = None
        self._to_stdout = False
        self._stdout_gone = False

    @property
    def exclusive(self) -> Collection[str]:
        """The file, or standard output."""
        return [self.name if self.path is None else str(self.path.resolve())]

    def open(self) -> None:
        """Open the file, and create its folder."""
        if self.path is None:
            if sys.stdout is None:
                raise SinkError("standard output is closed; open it, or name a file: --jsonl FILE")
            self._to_stdout = True
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open_file(self.path)
        except OSError as error:
            with suppress(OSError):
                self._close_file()
            raise SinkError(f"{self.path} can't be written ({error.strerror}); name another file") from error

    def write(self, result: FrameResult) -> None:
        """Write one line."""
        line = json.dumps(result.to_dict(), allow_nan=False) + "\n"
        if self._to_stdout:
            self._print(line)
            return
        if self._file is None:
            raise SinkError("the JSON lines are not open; use the sink inside `with sink:`")
        data = line.encode()
        try:
            size = self._current_size()
            if self._rotate_bytes is not None and size and size + len(data) > self._rotate_bytes:
                self._rotate()
            self._append(data)
        except OSError as error:
            raise self._full(error) from error

    def idle(self) -> bool:
        """Sync what is due."""
        try:
            self._sync_when_due()
        except OSError as error:
            raise self._full(error) from error
        return False

    def close(self) -> None:
        """Sync where that was asked for, and close the file; standard output stays open."""
        self._to_stdout = False
        try:
            self._close_file()
        except OSError as error:
            raise self._full(error) from error

    def _open_file(self, path: Path) -> None:
        self._file = io.FileIO(path, "a+")
        if not try_lock(self._file):
            self._file.close()
            self._file = None
            raise SinkError(f"{path} is being written by another program; name a file for each")

    def _current_size(self) -> int:
        """Of the file at the path, which is opened anew where it is not the one that was opened."""
        assert self.path is not None
        assert self._file is not None
        here = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
            is_same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        except FileNotFoundError:
            is_same = False
        if not is_same:
            self._close_file()
            self.open()
        return os.fstat(self._file.fileno()).st_size

    def _append(self, data: bytes) -> None:
        """All of it or, where the disk is full, nothing, unless another program has written after it."""
        file = self._file
        assert file is not None
        written, rest = 0, data if _ends_whole(file) else b"\n" + data
        try:
            while written < len(rest):
                written += file.write(memoryview(rest)[written:])
            self._unsynced_since = self._unsynced_since or time.monotonic()
            self._sync_when_due()
        except OSError:
            with suppress(OSError):  # a device has no length
                end = file.tell()  # of what was written here, in append mode
                if written and end == os.fstat(file.fileno()).st_size:
                    file.truncate(end - written)
            raise

    def _sync_when_due(self) -> None:
        if self._fsync_s is None or self._unsynced_since is None or self._file is None:
            return
        if time.monotonic() - self._unsynced_since >= self._fsync_s:
            os.fsync(self._file.fileno())
            self._unsynced_since = None

    def _rotate(self) -> None:
        """Begin a new file; where the old ones can't be renamed, the lines go on in this one, with a fault."""
        path = self.path
        assert path is not None
        self._close_file()
        numbered = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, self._keep + 1))]
        try:
            for older, newer in zip(reversed(numbered), reversed(numbered[:-1]), strict=False):
                if newer.exists():
                    newer.replace(older)
        except OSError as error:
            if self.fault is None:
                _log.warning("%s grows on, it can't be rotated: %s", path, error)
            self.fault = f"{path} grows on, it can't be rotated ({error.strerror}); see what is at {error.filename2}"
        else:
            if self.fault is not None:
                _log.warning("%s is rotated again", path)
            self.fault = None
        self._open_file(path)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        with file:
            if self._fsync_s is not None and self._unsynced_since is not None:
                os.fsync(file.fileno())
            self._unsynced_since = None

    def _print(self, line: str) -> None:
        try:
            if self._stdout_gone:
                raise BrokenPipeError
            sys.stdout.write(line)
            sys.stdout.flush()
        except BrokenPipeError as error:
            self._give_up_stdout()
            raise SinkError("standard output was closed by the program that read it; keep that running") from error
        except OSError as error:
            raise self._full(error) from error

    def _give_up_stdout(self) -> None:
        """What Python still holds for the closed pipe goes nowhere, or it would complain once more on its way out."""
        if not self._stdout_gone:
            self._stdout_gone = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def _full(self, error: OSError) -> SinkError:
        return SinkError(f"{self.name} can't be written ({error.strerror}); free some space there")


def _ends_whole(file: io.FileIO) -> bool:
    """Whether the file ends with a line break, or is empty."""
    if os.fstat(file.fileno()).st_size == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
