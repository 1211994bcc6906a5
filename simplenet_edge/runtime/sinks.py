"""Where results go: JSON lines for machines, overlay images for people.

In: `FrameResult`s. A JSON line holds times in milliseconds, raw scores and UTC in ISO 8601; an overlay is a PNG of the
model's size.
"""

from __future__ import annotations

import json
import os
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO, TypeVar

import cv2

from simplenet_edge.atomic import write_bytes_atomic
from simplenet_edge.errors import ConfigError
from simplenet_edge.overlay import overlay
from simplenet_edge.runtime.detector import Verdict
from simplenet_edge.runtime.sources import FrameRecord

__all__ = ["FrameResult", "JsonlSink", "OverlaySink", "Sink"]

_SinkT = TypeVar("_SinkT", bound="Sink")
_NAME_LENGTH = 80  # of a frame's name inside a file name; file systems allow 255 bytes in all


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What became of one frame: a verdict, or `reason`, which says why there is none."""

    record: FrameRecord
    bundle_id: str
    threshold: float
    inspection: Verdict | None
    reason: str | None = None

    def __post_init__(self) -> None:
        assert (self.inspection is None) != (self.reason is None)

    @property
    def verdict(self) -> Literal["OK", "NG", "INVALID"]:
        """INVALID when the frame could not be inspected: never to be taken for OK."""
        return "INVALID" if self.inspection is None else self.inspection.verdict

    def to_dict(self) -> dict[str, Any]:
        """One JSON line: the same keys on every line, null where an INVALID frame has no value."""
        inspection = self.inspection
        times = inspection.times if inspection else None
        return {
            "frame_id": self.record.frame_id,
            "name": self.record.name,
            "wall_time": self.record.wall_time.isoformat(timespec="milliseconds"),
            "verdict": self.verdict,
            "score": inspection.score if inspection else None,
            "threshold": self.threshold,
            "reason": self.reason,
            "preprocess_ms": times.preprocess_ms if times else None,
            "infer_ms": times.infer_ms if times else None,
            "post_ms": times.post_ms if times else None,
            "bundle_id": self.bundle_id,
        }


class Sink(ABC):
    """A context manager that is given every result in order; after `write` returns, the result is on its way to disk.

    Raises ConfigError when what it writes to can't be written.
    """

    @abstractmethod
    def write(self, result: FrameResult) -> None:
        """Take one result."""

    @abstractmethod
    def open(self) -> None:
        """Take the file or the folder."""

    @abstractmethod
    def close(self) -> None:
        """Give it back."""

    def __enter__(self: _SinkT) -> _SinkT:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonlSink(Sink):
    """One JSON object a frame and line, flushed line by line; appended to `path`, or to standard output for None.

    A last line that an earlier run left half-written (a power cut) is ended first, so that it spoils no other.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._stream: TextIO | None = None

    def open(self) -> None:
        """Open the file, and create its folder."""
        if self.path is None:
            self._stream = sys.stdout
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a", encoding="utf-8")
            if _ends_in_half_a_line(self.path):
                self._stream.write("\n")
        except OSError as error:
            raise ConfigError(f"{self.path} can't be written ({error.strerror}); name another file") from error

    def write(self, result: FrameResult) -> None:
        """Write one line."""
        if self._stream is None:
            raise ConfigError("the JSON lines are not open; use the sink inside `with sink:`")
        try:
            self._stream.write(json.dumps(result.to_dict(), allow_nan=False) + "\n")
            self._stream.flush()
        except OSError as error:
            target = self.path or "standard output"
            raise ConfigError(f"{target} can't be written ({error.strerror}); free some space there") from error

    def close(self) -> None:
        """Close the file; standard output stays open."""
        stream, self._stream = self._stream, None
        if stream is not None and self.path is not None:
            try:
                stream.close()
            except OSError as error:
                raise ConfigError(f"{self.path} can't be written ({error.strerror}); free some space there") from error


class OverlaySink(Sink):
    """Writes the frame with its map on top as `<UTC time>-<frame id>-<name>-<verdict>.png`, whole or not at all.

    `only="ng"` keeps the NG frames, `"all"` the OK ones too; an INVALID frame has nothing to draw. `normal_level` is
    the raw score that is drawn as fully normal: `PrecisionRecord.score_statistics.median`. `source_folder` is
    `Source.folder`: a folder inside it is refused, for its overlays would be inspected next time.
    """

    def __init__(
        self, folder: Path, normal_level: float, only: Literal["ng", "all"] = "ng", source_folder: Path | None = None
    ) -> None:
        if only not in ("ng", "all"):
            raise ConfigError(f"overlays are written for 'ng' or 'all' frames, not {only!r}")
        if source_folder is not None and folder.resolve().is_relative_to(source_folder.resolve()):
            raise ConfigError(
                f"{folder} lies in {source_folder}, where the images come from; name a folder outside it for overlays"
            )
        self.folder = folder
        self.normal_level = normal_level
        self.only = only

    def open(self) -> None:
        """Create the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder} can't be created ({error.strerror}); name another folder") from error

    def close(self) -> None:
        """Nothing is held open between frames."""

    def write(self, result: FrameResult) -> None:
        """Write the overlay of a frame that is asked for."""
        inspection = result.inspection
        if inspection is None or (self.only == "ng" and inspection.verdict != "NG"):
            return
        drawn = overlay(
            inspection.model_frame, inspection.map, threshold=inspection.threshold, normal_level=self.normal_level
        )
        encoded, data = cv2.imencode(".png", drawn)
        assert encoded
        path = self.folder / _file_name(result)
        try:
            write_bytes_atomic(path, data.tobytes())
        except OSError as error:
            raise ConfigError(f"{path} can't be written ({error.strerror}); free some space") from error


def _ends_in_half_a_line(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _file_name(result: FrameResult) -> str:
    record = result.record
    time = f"{record.wall_time:%Y%m%dT%H%M%S}.{record.wall_time.microsecond:06d}Z"
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", record.name)[-_NAME_LENGTH:]
    return f"{time}-{record.frame_id:08d}-{name}-{result.verdict}.png"
