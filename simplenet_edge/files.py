"""Files that are there whole or not at all, also after a power cut: the one place that writes them.

Everything is written under a temporary name in the same folder, synced, and renamed.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from simplenet_edge.errors import DataError

__all__ = ["sync_folder", "try_lock", "write_bytes", "write_json", "write_text"]


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path`, over what was there; missing folders are made.

    With `sync` False a power cut may leave an empty file: for what is not worth the wait. Raises OSError where the disk
    refuses; what was there before is still there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
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
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise DataError(
            f"{path} can't be written ({error.strerror or error}); nothing was changed there: free some space, or name "
            "another place"
        ) from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write strict, indented JSON as `write_text` does."""
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


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


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut, where the system can do that."""
    if os.name == "nt":  # folders can't be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
