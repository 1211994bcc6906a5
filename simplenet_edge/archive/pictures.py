"""Which pictures an archive holds: those of folders, globs, single files and stores that fsspec knows.

A store is a file system of fsspec that is not this machine's: `s3://bucket/folder`, `gs://...`. Local pictures go by
their absolute path, others by their URL, without a password.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from simplenet_edge.contract import one_line
from simplenet_edge.errors import ConfigError, DataError, SimpleNetEdgeError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES, check_encoded_size, read_encoded
from simplenet_edge.imaging.folder import image_files
from simplenet_edge.runtime.records import as_text

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Picture", "find_pictures", "is_in_this_process", "read_picture"]


@dataclass(frozen=True)
class Picture:
    """A picture by the name that people and results know it by, where it is, and what tells it from a later one."""

    path: str  # an absolute path or a URL, as text that can be encoded
    source: bytes  # the path in its store or on this machine, as it is
    store: int | None  # which of the stores; None: local
    bytes: int | None = None  # its size; None where the store doesn't say
    mtime_us: int | None = None  # when it was changed, microseconds since 1970; None where the store doesn't say


def find_pictures(words: Sequence[str], stores: list[AbstractFileSystem]) -> Iterator[Picture]:
    """The pictures that `words` name, some of them more than once; the stores that they are in go into `stores`.

    What is no file with an image's ending, or begins with a dot, is passed over. Raises ConfigError for a store that
    fsspec doesn't know or whose package is missing, DataError for what isn't there or can't be listed.
    """
    for word in words:
        if "://" not in word:
            yield from _local(word)
            continue
        store, name = _open_store(word)
        if "file" in _protocols(store):
            yield from _local(name)
        else:
            stores.append(store)
            yield from _stored(word, store, name, len(stores) - 1)


def read_picture(picture: Picture, stores: Sequence[AbstractFileSystem]) -> bytes:
    """The content of a picture, before it is decoded. Raises DataError where it is too large or can't be read."""
    if picture.store is None:
        return read_encoded(Path(os.fsdecode(picture.source)))
    if picture.bytes is not None:
        check_encoded_size(picture.bytes)
    try:
        return bytes(stores[picture.store].cat_file(os.fsdecode(picture.source)))
    except Exception as error:  # what the stores' libraries raise shares no base
        raise DataError(f"can't be read ({_said(error)}); check the store and the rights there") from error


def is_in_this_process(store: AbstractFileSystem) -> bool:
    """Whether no other process sees what is in a store, as with `memory://`."""
    return "memory" in _protocols(store)


def _local(word: str) -> Iterator[Picture]:
    try:
        if os.path.exists(word):
            yield from _folder_or_file(word)
        elif glob.has_magic(word):
            matches = 0
            for match in glob.iglob(word, recursive=True):
                matches += 1
                yield from _folder_or_file(match)
            if not matches:
                raise DataError(f"{word}: nothing goes by that pattern; check it, and put it in quotes")
        else:
            raise DataError(f"{word}: no such file or folder; check the path")
    except OSError as error:
        raise DataError(f"{error.filename or word}: can't be read ({error.strerror}); check permissions") from error


def _folder_or_file(name: str) -> Iterator[Picture]:
    if os.path.isdir(name):
        for path, about in image_files(Path(name).resolve()):
            yield _on_disk(path, about)
    elif _is_picture(name) and os.path.exists(name):  # not a link to nowhere
        path = Path(name)
        path = path.parent.resolve() / path.name
        yield _on_disk(path, path.stat())


def _on_disk(path: Path, about: os.stat_result) -> Picture:
    return Picture(as_text(str(path)), os.fsencode(path), None, about.st_size, about.st_mtime_ns // 1000)


def _open_store(word: str) -> tuple[AbstractFileSystem, str]:
    """The store of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    if "::" in word:
        raise ConfigError(f"{word}: expected one store, found several chained by ::; unpack the pictures first")
    scheme = word.partition("://")[0]
    try:
        store, name = url_to_fs(word, use_listings_cache=False)
    except ValueError as error:
        raise ConfigError(f"{scheme}:// is no store that fsspec knows ({one_line(error)})") from error
    except ImportError as error:
        raise ConfigError(f"{scheme}:// needs a package that is missing ({one_line(error)})") from error
    except Exception as error:  # as in `read_picture`
        raise _unreachable(scheme, error) from error
    return store, str(name)


def _stored(word: str, store: AbstractFileSystem, name: str, number: int) -> Iterator[Picture]:
    scheme, found = word.partition("://")[0], 0
    try:
        for about in _listed(store, name):
            found += 1
            if _is_picture(about["name"]):
                yield Picture(
                    as_text(_url(store, about["name"])),
                    os.fsencode(about["name"]),
                    number,
                    about.get("size"),
                    _changed_us(about),
                )
    except SimpleNetEdgeError:
        raise
    except Exception as error:  # as in `read_picture`
        raise _unreachable(scheme, error) from error
    if not found:
        raise DataError(f"{scheme}://: nothing is at {name!r} in that store; check the address")


def _listed(store: AbstractFileSystem, name: str) -> Iterator[dict[str, Any]]:
    """What the store says of each of its files that `name`, a file, a glob or a folder, stands for."""
    if store.isfile(name):
        yield store.info(name)
    elif glob.has_magic(name):
        for about in store.glob(name, detail=True).values():
            yield from [about] if about["type"] == "file" else _walked(store, about["name"])
    else:
        yield from _walked(store, name)


def _walked(store: AbstractFileSystem, name: str) -> Iterator[dict[str, Any]]:
    for _, folders, files in store.walk(name, detail=True, on_error="raise"):
        for hidden in [folder for folder in folders if folder.startswith(".")]:
            del folders[hidden]
        yield from files.values()


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _url(store: AbstractFileSystem, name: str) -> str:
    host = store.storage_options.get("host")
    return f"{_protocols(store)[0]}://{host}{name}" if host else str(store.unstrip_protocol(name))


def _protocols(store: AbstractFileSystem) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)


def _changed_us(about: dict[str, Any]) -> int | None:
    """When a file was changed, as its store calls that."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = about.get(key)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                continue
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(value, (int, float)):
            return round(value * 1_000_000)
    return None


def _unreachable(scheme: str, error: Exception) -> DataError:
    return DataError(
        f"{scheme}:// can't be reached or listed ({_said(error)}); check the address, the network and your rights there"
    )


def _said(error: Exception) -> str:
    return one_line(error) or type(error).__name__
