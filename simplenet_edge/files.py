"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_bytes_atomic"]


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, over what was there; missing folders are made.

    Raises OSError where the disk refuses; what was there before is still there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
