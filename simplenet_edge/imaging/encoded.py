"""Encoded images as bytes: one decoded, or several JPEGs and PNGs back to back taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.preprocess import to_bgr
from simplenet_edge.spec import Frames

__all__ = ["MAX_IMAGE_BYTES", "decode_image", "split_images"]

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""One encoded image may be as large as this."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan: not a stuffed FF, a fill byte or a restart


def decode_image(data: bytes) -> Frames:
    """An encoded image as uint8 `(H, W, 3)` BGR. Raises DataError for one that is damaged, cut off or transparent."""
    reader = _Reader([data])
    if _is_marked(reader) and not _take(reader):
        raise DataError(f"the image is cut off before its end, after {len(data)} bytes; send it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise DataError(f"OpenCV refuses to decode it ({error.err}); scale it down") from error
    if image is None:
        raise DataError(f"it is no image that OpenCV can decode ({len(data)} bytes); send a JPEG or a PNG")
    return to_bgr(image)


def split_images(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each image of a stream of JPEGs and PNGs back to back; a stream that begins with neither is one image as a whole.

    What follows an image and is neither comes out as it is, for `decode_image` to refuse, and so does a last image
    that is cut off. Raises DataError for an image above 64 MiB.
    """
    reader = _Reader(chunks)
    while reader.has(1):
        if not _is_marked(reader) or not _take(reader):
            reader.take_all()
        yield reader.taken()


class _Reader:
    """Bytes from the front of `chunks`, fetched as they are needed; `position` is how many are taken."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.data = bytearray()
        self.position = 0

    def has(self, count: int) -> bool:
        """Whether there are so many bytes more."""
        while len(self.data) < self.position + count:
            if len(self.data) > MAX_IMAGE_BYTES:
                raise DataError(f"an image has more than {MAX_IMAGE_BYTES >> 20} MiB; send it smaller")
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self.data += chunk
        return True

    def number(self, size: int, at: int = 0) -> int:
        """A big-endian number, `at` bytes on from here."""
        start = self.position + at
        return int.from_bytes(self.data[start : start + size], "big")

    def take_all(self) -> None:
        """To the end of the stream."""
        while self.has(len(self.data) - self.position + 1):
            pass
        self.position = len(self.data)

    def taken(self) -> bytes:
        """The bytes that were taken; they are gone afterwards."""
        data = bytes(self.data[: self.position])
        del self.data[: self.position]
        self.position = 0
        return data


def _is_marked(reader: _Reader) -> bool:
    """Whether a JPEG or a PNG begins here; those say where they end."""
    return reader.has(len(_JPEG)) and (
        reader.data.startswith(_JPEG) or (reader.has(len(_PNG)) and reader.data.startswith(_PNG))
    )


def _take(reader: _Reader) -> bool:
    """Take the JPEG or PNG that begins here; False where the stream ends before it, or it is damaged."""
    return _take_jpeg(reader) if reader.data.startswith(_JPEG) else _take_png(reader)


def _take_png(reader: _Reader) -> bool:
    reader.position = len(_PNG)
    while reader.has(8):
        length, kind = reader.number(4), bytes(reader.data[reader.position + 4 : reader.position + 8])
        if not reader.has(12 + length):
            return False
        reader.position += 12 + length
        if kind == b"IEND":
            return True
    return False


def _take_jpeg(reader: _Reader) -> bool:
    reader.position = 2
    while reader.has(2):
        if reader.data[reader.position] != 0xFF:
            return False
        marker = reader.data[reader.position + 1]
        if marker == 0xFF:  # a fill byte
            reader.position += 1
            continue
        reader.position += 2
        if marker == _END:
            return True
        if not reader.has(2) or not reader.has(reader.number(2)):
            return False
        reader.position += reader.number(2)
        if marker == _SCAN and not _skip_scan(reader):
            return False
    return False


def _skip_scan(reader: _Reader) -> bool:
    """To the marker after a scan's entropy-coded bytes."""
    while True:
        found = _MARKER.search(reader.data, reader.position)
        if found:
            reader.position = found.start()
            return True
        reader.position = max(reader.position, len(reader.data) - 1)
        if not reader.has(2):
            return False
