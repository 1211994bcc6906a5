"""What every source of frames is: a context manager that is iterated once and gives `FrameRecord`s in order."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, TypeVar

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.codes import read_code
from simplenet_edge.runtime.records import FrameRecord, as_text

__all__ = ["Source", "View", "utc_now"]

_SourceT = TypeVar("_SourceT", bound="Source")


@dataclass(frozen=True)
class View:
    """What of a source is inspected: the rectangle `xywh` of its image in pixels, and one frame of `every`.

    Both are the user's, from the end of a source's address: `#xywh=160,120,320,240&every=2` (W3C Media Fragments).
    """

    xywh: tuple[int, int, int, int] | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.xywh is not None and (min(self.xywh) < 0 or min(self.xywh[2:]) < 1):
            raise ConfigError(f"xywh must be x,y,width,height in pixels with a size of at least 1x1, not {self.xywh}")
        if self.every < 1:
            raise ConfigError(f"every must be at least 1, not {self.every}")

    def crop(self, record: FrameRecord) -> FrameRecord:
        """The record with the rectangle of its image; with the whole image and an error where that is too small."""
        image = record.image
        if self.xywh is None or image is None:
            return record
        x, y, width, height = self.xywh
        if x + width > image.shape[1] or y + height > image.shape[0]:
            error = (
                f"xywh={x},{y},{width},{height} needs an image of at least {x + width}x{y + height} pixels, found "
                f"{image.shape[1]}x{image.shape[0]}; change the rectangle or the camera's size"
            )
            return replace(record, error=error)
        return replace(record, image=image[y : y + height, x : x + width], offset_xy=(x, y))


class Source(ABC):
    """A context manager that is iterated once, inside `with`. `name` is what the user called it."""

    live: ClassVar[bool] = False
    """Whether time goes on while nobody reads: a live source drops frames rather than let them grow old; a recorded
    one waits, and none of its frames is ever left out."""
    on_demand: ClassVar[bool] = False
    """Whether a frame comes only when somebody asks for one, so that silence is no fault."""
    folder: Path | None = None
    """The folder that is read from, where that is what the source does; nothing may be written into it."""

    part_from: Literal["name", "code"] | None = None
    """Where a part's id comes from: a file's name without its ending, a QR code or barcode in the whole image."""

    bit_depth: int = 16
    """Bits that 16-bit images use, as `InputSpec.bit_depth` of the model says; the line sets it."""

    patient: bool = False
    """Whether a camera or a folder that is away when it is opened is waited for, as it is later, or is an error."""

    connected: bool = True
    """Whether the camera gives frames now."""
    reconnects: int = 0
    """How often it came back after it was away."""
    fault: str | None = None
    """What else is wrong, such as a controller that is away."""

    def __init__(self, name: str, view: View | None = None) -> None:
        self.name = as_text(name)
        self.view = view or View()
        self.stopping = threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[FrameRecord]:
        """The frames in order; waiting for the next one ends soon after `stop`.

        A live source goes on through faults: it gives records with an `error` while its camera is away.
        """

    def frames(self) -> Iterator[FrameRecord]:
        """What of the source is inspected: of its records those that `view` asks for, cropped."""
        for number, record in enumerate(self):
            if record.image is None or number % self.view.every == 0:
                yield replace(self.view.crop(self._identified(record)), camera=self.name)

    def _identified(self, record: FrameRecord) -> FrameRecord:
        """The record with the part's id, or with an error where there is none to be found."""
        if self.part_from is None or record.image is None:
            return record
        part_id = Path(record.name).stem if self.part_from == "name" else read_code(record.image)
        try:
            if part_id is None:
                raise DataError("no QR code or barcode can be read in the image, which is to name the part")
            return replace(record, part=replace(record.part, id=part_id))
        except DataError as error:
            return replace(record, error=record.error or str(error))

    @abstractmethod
    def _open(self) -> None:
        """Take the device or the file. Raises SourceError when it gives no frames, unless it can wait for them."""

    @abstractmethod
    def _close(self) -> None:
        """Give it back."""

    def stop(self) -> None:
        """Ask the iteration to end soon; from any thread, once or more often."""
        self.stopping.set()

    def __enter__(self: _SourceT) -> _SourceT:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def utc_now() -> datetime:
    """The wall time of a record."""
    return datetime.now(timezone.utc)
