"""Images on standard input: one, or JPEGs and PNGs back to back as `ffmpeg -f image2pipe` writes them."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.imaging.encoded import MAX_IMAGE_BYTES, split_images
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, utc_now

__all__ = ["StdinImages", "stdin_chunks"]

_CHUNK = 1 << 16
_TICK_S = 0.2


class StdinImages(Source):
    """Each image on standard input, in order. One that can't be decoded, or that has more than `max_bytes`, gives a
    record with its error, and the next one is taken as usual.
    """

    def __init__(self, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        super().__init__("stdin")
        self._max_bytes = max_bytes
        self._chunks: Iterator[bytes] | None = None

    def _open(self) -> None:
        self._chunks = stdin_chunks(self.stopping, "an image, e.g. simplenet-edge run … - < part.png")

    def _close(self) -> None:
        self.stop()
        self._chunks = None

    def __iter__(self) -> Iterator[FrameRecord]:
        if self._chunks is None:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        frame_id = 0
        images = split_images(self._chunks, self._max_bytes)
        while True:
            name = f"{self.name}#{frame_id}"
            try:
                data = next(images, None)
                if data is None or self.stopping.is_set():
                    break
                yield FrameRecord(frame_id, name, utc_now(), decode_image(data, self.bit_depth))
            except DataError as error:
                yield FrameRecord(frame_id, name, utc_now(), None, f"standard input, image {frame_id}: {error}")
            frame_id += 1
        if frame_id == 0 and not self.stopping.is_set():
            raise SourceError("standard input is empty; expected an image, or several JPEGs and PNGs back to back")


def stdin_chunks(stopping: threading.Event, expected: str) -> Iterator[bytes]:
    """Standard input as it comes, until its end or `stopping`. Raises SourceError where it is closed or a terminal.

    A thread reads, below Python's own buffer: it may wait for ever, and must not hold up the end of the program.
    """
    try:
        descriptor = sys.stdin.fileno()
        is_terminal = os.isatty(descriptor)
    except (AttributeError, OSError, ValueError):
        raise SourceError(f"standard input is closed; expected {expected}") from None
    if is_terminal:
        raise SourceError(f"standard input is a terminal; expected {expected}")
    chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=16)

    def read() -> None:
        while not stopping.is_set():
            try:
                chunk = os.read(descriptor, _CHUNK)
            except OSError:
                chunk = b""
            while not stopping.is_set():
                try:
                    chunks.put(chunk or None, timeout=_TICK_S)
                    break
                except queue.Full:
                    continue
            if not chunk:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return _until_end(chunks, stopping)


def _until_end(chunks: queue.Queue[bytes | None], stopping: threading.Event) -> Iterator[bytes]:
    while not stopping.is_set():
        try:
            chunk = chunks.get(timeout=_TICK_S)
        except queue.Empty:
            continue
        if chunk is None:
            return
        yield chunk
