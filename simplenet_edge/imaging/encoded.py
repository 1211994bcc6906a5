"""Where an encoded image ends: JPEGs and PNGs say so, which tells whole from cut off and takes streams apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from simplenet_edge.errors import DataError

__all__ = ["MAX_IMAGE_BYTES", "is_cut_off", "split_images"]

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""One encoded image may be as large as this."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan: not a stuffed FF, a fill byte or a restart


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or a PNG ends before its end marker, or is damaged on the way to it.

    OpenCV decodes some of those, the missing part grey. What follows the end marker doesn't matter: some cameras append
    data. Other formats don't say where they end.
    """
    reader = _Reader([data])
    return _is_marked(reader) and not _take(reader)


def split_images(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each image of a stream of JPEGs and PNGs back to back; a stream that begins with neither is one image as a whole.

    What follows an image and is neither comes out as it is, for the decoder to refuse, and so does a last image
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
