"""Files that are there whole or not at all, also after a power cut: the one place that writes them.

Everything is written under a temporary name in the same folder, synced, and renamed. A folder that replaces another
changes places with it in one step of the file system, so that its path always holds a whole one.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from simplenet_edge.errors import ConfigError, DataError

__all__ = [
    "disk_errors",
    "lock",
    "read_json",
    "require_writable",
    "sync_folder",
    "try_lock",
    "write_bytes",
    "write_file",
    "write_folder",
    "write_json",
    "write_text",
]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path`, over what was there; missing folders are made.

    With `sync` False a power cut may leave an empty file: for what is not worth the wait. Raises OSError where the disk
    refuses; what was there before is still there then.
    """
    with write_file(path, sync=sync) as file:
        file.write(data)


@contextmanager
def write_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to be written piece by piece, which is at `path` when all inside went well; as `write_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `write_bytes` does. Raises DataError where the disk refuses."""
    with disk_errors(path):
        write_bytes(path, text.encode())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write strict, indented JSON as `write_text` does."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or a damaged one."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of `files`, by their names in it, in place of the one at `path`, which goes away as a whole.

    At every moment `path` holds the whole old folder or the whole new one, where the file system can exchange two
    names; where it can't, there is none for the moment between two renames. Raises OSError as `write_bytes` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for name, data in files.items():
            write_bytes(staging / name, data)
        sync_folder(staging)  # the names of its subfolders
        staging.chmod(0o755)
        if path.is_dir():
            _exchange(staging, path)
        else:
            os.replace(staging, path)
        sync_folder(path.parent)
    finally:
        if staging.is_symlink():  # `path` was a link to a folder, which is not ours to remove
            staging.unlink()
        shutil.rmtree(staging, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut, where the system can do that."""
    if os.name == "nt":  # folders can't be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(folder: Path) -> None:
    """Make `folder` and see that files can be written there, before work whose result goes there. Raises DataError."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def try_lock(file: io.FileIO) -> bool:
    """Keep other programs off an open file until it is closed, also by a kill; False where one of them holds it."""
    if sys.platform == "win32":  # no such locks there
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the file `path`, made where it is missing, against other processes; the system lets go of it at a kill.

    Raises ConfigError where another process holds it, OSError where it can't be opened.
    """
    with path.open("ab", buffering=0) as file:
        if not try_lock(file):
            raise ConfigError(f"another process is at work in {path.parent}; wait for its end, or name another folder")
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise DataError, which names `path`, for what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} can't be written ({error.strerror or error}); free some space, or name another place"
        ) from error


def _exchange(new: Path, path: Path) -> None:
    """Let two folders change places, in one step where the file system can do that."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or a C library without it
        code = errno.ENOSYS
    else:
        if exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
    if code not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(path))
    retired = new.with_name(f"{new.name}.old")
    os.replace(path, retired)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(retired, path)
        raise
    os.replace(retired, new)
