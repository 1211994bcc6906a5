"""The files of a bundle, in a folder or in one `.zip`: bytes by name, their sizes known before they are read.

    SIMPLENET_EDGE_MAX_BUNDLE_MIB    all of them together at most, 4096 unless set

A `.zip` must not hold more than 10,000 files, nor, above 64 MiB, more than 100 times its own size: weights hardly
compress.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.contract import one_line
from simplenet_edge.errors import BundleError, ConfigError, SimpleNetEdgeError

__all__ = ["BundleFiles", "npy_array", "npy_bytes"]

_LIMIT = "SIMPLENET_EDGE_MAX_BUNDLE_MIB"
_LIMIT_MIB = 4096
_MAX_MEMBERS = 10_000
_MAX_RATIO, _SMALL_BYTES = 100, 64 * 2**20
_CHUNK_BYTES = 2**20


class BundleFiles:
    """Reads files of a bundle by plain name. What is missing, damaged or too large raises BundleError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, limit_bytes: int | None = None) -> bytes:
        """The content of a file of at most `limit_bytes`, or of what all files may have together."""
        return b"".join(self.chunks(name, limit_bytes))

    def chunks(self, name: str, limit_bytes: int | None = None) -> Iterator[bytes]:
        """The same, piece by piece."""
        limit_bytes = _limit_bytes() if limit_bytes is None else limit_bytes
        with self._named(name), self._open(name) as (file, size):
            if size > limit_bytes:
                raise self._too_large(name, size, limit_bytes)
            while chunk := file.read(min(_CHUNK_BYTES, size)):
                size -= len(chunk)
                yield chunk
                if size <= 0:  # more than it had when it was opened is not read
                    return

    def size(self, name: str) -> int:
        """The bytes of a file, without reading it. Raises BundleError."""
        with self._named(name), self._open(name) as (_, size):
            return size

    def require_size(self, names: Iterable[str]) -> None:
        """Refuse a folder whose files of these names are too large together; a `.zip` is measured when it opens."""
        if not self.path.is_dir():
            return
        size = 0
        for name in names:
            with self._named(name):
                size += (self.path / name).stat().st_size
        if size > _limit_bytes():
            raise self._too_large("the bundle", size, _limit_bytes())

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """A file, open for reading, and its size in bytes."""
        if self.path.is_dir():
            about = (self.path / name).stat()
            if not stat.S_ISREG(about.st_mode):  # a pipe or a device might never end
                raise BundleError(f"{self.path}: {name} is no regular file; don't use this bundle")
            with (self.path / name).open("rb") as file:
                yield file, about.st_size
            return
        if self.path.exists() and not self.path.is_file():
            raise BundleError(f"{self.path}: neither a folder nor a whole .zip; name a bundle")
        with zipfile.ZipFile(self.path) as archive:
            self._measure(archive.infolist())
            with archive.open(name) as member:
                yield member, archive.getinfo(name).file_size

    def _measure(self, members: list[zipfile.ZipInfo]) -> None:
        if len(members) > _MAX_MEMBERS or len({member.filename for member in members}) < len(members):
            raise BundleError(
                f"{self.path}: {len(members)} files, of which some may have one name; expected at most {_MAX_MEMBERS} "
                "of different names: don't use this bundle"
            )
        size = sum(member.file_size for member in members)
        limit_bytes = min(_limit_bytes(), max(_SMALL_BYTES, _MAX_RATIO * self.path.stat().st_size))
        if size > limit_bytes:
            raise self._too_large("the bundle", size, limit_bytes)

    def _too_large(self, what: str, size: int, limit_bytes: int) -> BundleError:
        return BundleError(
            f"{self.path}: {what} has {size / 2**20:.0f} MiB, more than the {limit_bytes / 2**20:.0f} MiB that are "
            f"read; don't use this bundle, or set {_LIMIT} if it is yours"
        )

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Say of any fault which file of which bundle it is in."""
        try:
            yield
        except SimpleNetEdgeError:
            raise
        except (FileNotFoundError, KeyError, NotADirectoryError):
            if not self.path.exists():
                raise BundleError(f"{self.path}: no such bundle; check the path") from None
            raise BundleError(f"{self.path}: {name} is missing; this is not a bundle, or it was cut off") from None
        except zipfile.BadZipFile as error:
            raise BundleError(f"{self.path}: neither a folder nor a whole .zip ({error}); copy it again") from error
        except OSError as error:
            raise BundleError(f"{self.path}: {name} can't be read ({error})") from error
        except Exception as error:  # what the decompressors raise on damaged data shares no base
            raise BundleError(f"{self.path}: {name} can't be unpacked ({error}); copy the bundle again") from error


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the content of a `.npy` file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes, kind: type[np.generic]) -> npt.NDArray[Any]:
    """The array of finite numbers of type `kind` that `npy_bytes` wrote. Raises ValueError where it is none."""
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(buffer)
        size = math.prod(shape) * dtype.itemsize
        if dtype != kind or size != len(data) - buffer.tell():  # before memory is taken for it
            raise ValueError(f"{dtype} {shape} in {len(data) - buffer.tell()} bytes, expected {kind.__name__}")
        array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError(f"no array ({one_line(error)})") from error
    if not np.isfinite(array).all():
        raise ValueError("an array with numbers that are not finite")
    return array


def _limit_bytes() -> int:
    text = os.environ.get(_LIMIT) or str(_LIMIT_MIB)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{_LIMIT} must be a number of MiB, not {text!r}")
    return int(text) * 2**20
