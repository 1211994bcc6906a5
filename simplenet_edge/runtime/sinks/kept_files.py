"""Pictures that a sink keeps in a folder: within a quota, with room left on the disk, and never a stranger's deleted.

One is called `<UTC time>-<frame id>-<name>-<verdict>` and the ending of its format, so that names sort by time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.files import write_bytes
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink

__all__ = ["KeptFiles", "PictureSink", "stem"]

_NAME_LENGTH = 80  # of a name inside a file name; file systems allow 255 bytes in all
_STEM = r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9]{8,}-[A-Za-z0-9._-]*-(?:OK|NG|INVALID)"


def stem(result: FrameResult, name: str) -> str:
    """What the files of a result are called, without an ending: printable ASCII, whatever `name` is."""
    time = result.record.wall_time
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-_NAME_LENGTH:]
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond:06d}Z-{result.record.frame_id:08d}-{safe}-{result.verdict}"


class KeptFiles:
    """The pictures of a sink by kind, each kind in a subfolder of its own; the kind "" lies in `folder` itself.

    With `has_records` a JSON file belongs to each PNG: both are there or neither is, and a power cut loses none of
    them. `what` is what messages call a picture. `source_folders` are those of the sources: a folder inside one is
    refused, for what is written there would be inspected. Raises ConfigError.

    When all pictures would come to more than `quota_bytes`, or the file system would have less than `min_free_bytes`
    left, the oldest of the kind that has the most pictures goes, and so on until there is room; where kinds have
    equally many, that of the first in `kinds`. So no kind loses a picture to one that has more. Never deleted are files
    of other names than `stem` gives, and pictures without their record.
    """

    def __init__(
        self,
        folder: Path,
        what: str,
        source_folders: Collection[Path] = (),
        *,
        kinds: Sequence[str] = ("",),
        has_records: bool = False,
        quota_bytes: int | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        if (quota_bytes is not None and quota_bytes < 1) or min_free_bytes < 0:
            raise ConfigError(
                f"quota_bytes must be at least 1 and min_free_bytes at least 0, not {quota_bytes} and {min_free_bytes}"
            )
        self._folders = {kind: folder / kind for kind in kinds}
        for source in source_folders:
            for path in self._folders.values():
                if path.resolve().is_relative_to(source.resolve()):
                    raise ConfigError(
                        f"{path} lies in {source}, where the images come from; name a folder outside it for {what}s"
                    )
        self._folder, self._what = folder, what
        self._has_records = has_records
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._endings = (".png", ".json") if has_records else (".png", ".jpg")
        self._sizes: dict[str, dict[str, int]] = {kind: {} for kind in kinds}  # bytes by stem, the oldest first

    @property
    def exclusive(self) -> Collection[str]:
        """The folders: two quotas in one would delete each other's pictures."""
        return {str(path.resolve()) for path in (self._folder, *self._folders.values())}

    def open(self) -> None:
        """Create the folders; count what an earlier run left in them, and delete what it left unfinished.

        Raises SinkError.
        """
        try:
            self._sizes = {kind: self._look(path) for kind, path in self._folders.items()}
        except OSError as error:
            raise SinkError(f"{self._folder} can't be used ({error.strerror}); name another folder") from error

    def write(self, kind: str, name: str, files: Mapping[str, bytes]) -> None:
        """Write a picture's files by their endings, its record first, after making room. Raises SinkError."""
        folder = self._folders[kind]
        size = sum(map(len, files.values()))
        try:
            self._make_room(kind, name, size)
            for ending, data in files.items():
                write_bytes(folder / f"{name}{ending}", data, sync=self._has_records)
        except OSError as error:
            with suppress(OSError):
                self._unlink(folder, name)
            raise SinkError(f"{folder / name} can't be written ({error.strerror}); free some space") from error
        self._sizes[kind][name] = size

    def _look(self, folder: Path) -> dict[str, int]:
        """The bytes of each picture in a folder by its stem, the oldest first."""
        written = rf"({_STEM})({'|'.join(map(re.escape, self._endings))})"
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, dict[str, int]] = {}
        for file in sorted(file for file in folder.iterdir() if file.is_file() and not file.is_symlink()):
            if re.fullmatch(rf"\.{written}\.[0-9]+\.tmp", file.name):
                file.unlink(missing_ok=True)
            elif match := re.fullmatch(written, file.name):
                found.setdefault(match[1], {})[match[2]] = file.stat().st_size
        sizes = {}
        for name, files in found.items():
            if not self._has_records or len(files) == len(self._endings):
                sizes[name] = sum(files.values())
            elif ".png" not in files:  # a run was killed between the two, or somebody has taken the picture
                self._unlink(folder, name)
        return sizes

    def _make_room(self, kind: str, name: str, size: int) -> None:
        """Delete the pictures that are in the way of a new one of `size` bytes."""
        self._sizes[kind].pop(name, None)
        if self._quota_bytes is not None:
            if size > self._quota_bytes:
                raise SinkError(f"one {self._what} of {size} bytes is over the quota of {self._quota_bytes}; raise it")
            self._delete_oldest(kind, self._total() + size - self._quota_bytes)
        if self._min_free_bytes == 0:
            return
        excess = self._min_free_bytes + size - shutil.disk_usage(self._folder).free
        if excess <= self._total():  # otherwise all would go, and it would not help
            self._delete_oldest(kind, excess)
        if (free := shutil.disk_usage(self._folder).free) < self._min_free_bytes + size:
            raise SinkError(
                f"{self._folder}: {free} bytes are free and {self._min_free_bytes} are to stay free; "
                f"the {self._what} is not written: free some space there"
            )

    def _total(self) -> int:
        return sum(sum(sizes.values()) for sizes in self._sizes.values())

    def _delete_oldest(self, new_kind: str, excess: int) -> None:
        """Delete at least `excess` bytes, or all, as the class says; the new picture counts among its kind."""
        while excess > 0 and (kinds := [kind for kind, sizes in self._sizes.items() if sizes]):
            kind = max(kinds, key=lambda kind: len(self._sizes[kind]) + (kind == new_kind))
            name = next(iter(self._sizes[kind]))
            self._unlink(self._folders[kind], name)
            excess -= self._sizes[kind].pop(name)

    def _unlink(self, folder: Path, name: str) -> None:
        """Delete a picture, and after it its record."""
        for ending in self._endings:
            (folder / f"{name}{ending}").unlink(missing_ok=True)


class PictureSink(Sink):
    """What the sinks that keep pictures share; `write` is each one's own."""

    needs_images = True
    capacity = 8

    def __init__(self, name: str, files: KeptFiles) -> None:
        self.name = name
        self._files = files

    @property
    def exclusive(self) -> Collection[str]:
        """The folders of the pictures."""
        return self._files.exclusive

    def open(self) -> None:
        """Create the folders; go on with what an earlier run left in them."""
        self._files.open()

    def close(self) -> None:
        """Nothing is held open between frames."""
