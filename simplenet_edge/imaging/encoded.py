"""Where an encoded image ends: JPEGs and PNGs say so, which tells whole from cut off and takes streams apart."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.headers import JPEG_MARKER, START_OF_SCAN, Kind, kind_of

__all__ = ["MAX_IMAGE_BYTES", "check_whole", "split_images"]

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""One encoded image that comes over a network or a pipe may be as large as this."""

_PNG_SIGNATURE = 8
_BEGIN, _END = 0xD8, 0xD9
_LONGEST_START = 12
_MOST_BEFORE_MPF = 256 * 1024  # of a JPEG: EXIF with its thumbnail, colour profiles
_START = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xc0-\xc2\xc4\xdb\xdd\xe0-\xef\xfe]")  # with a first marker


def check_whole(data: bytes) -> None:
    """Raise DataError for a JPEG or PNG that ends before its end marker, is damaged on the way to it, or is followed by
    another image, which would never be inspected.

    In a PNG every chunk has a checksum. Other data after the end marker don't matter: some cameras append them, also
    smaller copies as the JPEG's index of pictures (MPF) says. Other formats don't say where they end.
    """
    reader = _Reader([data], sys.maxsize)
    take = _TAKE.get(kind_of(data))
    if take is None:
        return
    if take(reader):
        rest = data[reader.position : reader.position + _LONGEST_START]
        if kind_of(rest) in _TAKE and b"MPF\0" not in data[:_MOST_BEFORE_MPF]:
            raise DataError("holds more than one image, of which only one would be inspected; send or save each alone")
        return
    if reader.is_at_end:
        raise DataError(f"the image is cut off before its end, after {len(data)} bytes; copy or send it again")
    raise DataError(f"the image is damaged at its byte {reader.position}; copy or send it again")


def split_images(chunks: Iterable[bytes], max_bytes: int = MAX_IMAGE_BYTES) -> Iterator[bytes]:
    """Each image of a stream of JPEGs and PNGs back to back; a stream that begins with another kind is one image.

    What is between two images comes out as it is, for the decoder to refuse, and so does a damaged one, up to the
    next start of an image. For an image above `max_bytes` it raises DataError, and goes on with the next one.
    """
    return _Images(_Reader(chunks, max_bytes))


class _Images(Iterator[bytes]):
    """An iterator that goes on after an error, which a generator can't."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._is_first, self._is_lost = True, False

    def __next__(self) -> bytes:
        reader = self._reader
        if self._is_lost:
            reader.skip(_START)
            self._is_lost = False
        try:
            return self._next(reader)
        except DataError:
            self._is_lost = True
            raise

    def _next(self, reader: _Reader) -> bytes:
        if not reader.has(1):
            raise StopIteration
        reader.has(_LONGEST_START)
        kind = kind_of(reader.data)
        is_one, self._is_first = self._is_first and kind is not None, False
        if (take := _TAKE.get(kind)) is None:
            reader.seek(None if is_one else _START)
        elif not take(reader):
            reader.seek(_START)
        return reader.taken()


class _Reader:
    """Bytes from the front of `chunks`, fetched as they are needed; `position` is how many are taken."""

    def __init__(self, chunks: Iterable[bytes], max_bytes: int) -> None:
        self._chunks = iter(chunks)
        self._max_bytes = max_bytes
        self.data = bytearray()
        self.position = 0
        self.is_at_end = False

    def has(self, count: int) -> bool:
        """Whether there are that many more bytes. Raises DataError where that is an image above the limit."""
        while len(self.data) < self.position + count:
            self._check(len(self.data))
            if not self._fetch():
                return False
        return True

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise DataError(f"an image has more than {self._max_bytes / 2**20:g} MiB; send it smaller")

    def _fetch(self) -> bool:
        chunk = next(self._chunks, None)
        self.is_at_end = chunk is None
        self.data += chunk or b""
        return not self.is_at_end

    def number(self, size: int, at: int = 0) -> int:
        """A big-endian number, `at` bytes on from here."""
        start = self.position + at
        return int.from_bytes(self.data[start : start + size], "big")

    def seek(self, start: re.Pattern[bytes] | None) -> None:
        """Take everything up to the next place, after here, that looks like `start`, or to the end."""
        self.position = max(self.position, 1)
        while True:
            if start and (found := start.search(self.data, self.position)):
                self.position = found.start()
                return
            self.position = max(self.position, len(self.data) - _LONGEST_START)
            if not self.has(_LONGEST_START + 1):
                self.position = len(self.data)
                return

    def skip(self, start: re.Pattern[bytes]) -> None:
        """Forget everything up to the next place, after here, that looks like `start`, or to the end."""
        del self.data[: max(self.position, 1)]
        self.position = 0
        while not (found := start.search(self.data)):
            del self.data[:-_LONGEST_START]
            if not self._fetch():
                self.data.clear()
                return
        del self.data[: found.start()]

    def taken(self) -> bytes:
        """The bytes that were taken; they are gone afterwards. Raises DataError where they are above the limit."""
        self._check(self.position)
        data = bytes(self.data[: self.position])
        del self.data[: self.position]
        self.position = 0
        return data


def _take_png(reader: _Reader) -> bool:
    reader.position = _PNG_SIGNATURE
    while reader.has(8):
        length, kind = reader.number(4), bytes(reader.data[reader.position + 4 : reader.position + 8])
        if not reader.has(12 + length):
            return False
        start, end = reader.position + 4, reader.position + 8 + length
        if zlib.crc32(memoryview(reader.data)[start:end]) != reader.number(4, 8 + length):
            return False
        reader.position = end + 4
        if kind == b"IEND":
            return True
    return False


def _take_jpeg(reader: _Reader) -> bool:
    reader.position = 2
    scans = None  # where they begin
    is_whole = False
    while reader.has(2) and reader.data[reader.position] == 0xFF:
        marker = reader.data[reader.position + 1]
        if marker == 0xFF:  # a fill byte
            reader.position += 1
            continue
        if marker == _END:
            reader.position += 2
            is_whole = True
            break
        if marker == _BEGIN or not reader.has(4) or not reader.has(2 + reader.number(2, 2)):
            break
        reader.position += 2 + reader.number(2, 2)
        if marker == START_OF_SCAN:
            scans = scans or reader.position
            if not _skip_scan(reader):
                break
    if scans is not None and (next_image := _START.search(reader.data, scans, reader.position)):
        reader.position, is_whole = next_image.start(), False  # no JPEG has that in its scans
    return is_whole


def _skip_scan(reader: _Reader) -> bool:
    """To the marker after a scan's entropy-coded bytes."""
    while True:
        found = JPEG_MARKER.search(reader.data, reader.position)
        if found:
            reader.position = found.start()
            return True
        reader.position = max(reader.position, len(reader.data) - 1)
        if not reader.has(2):
            return False


# Each takes the image that begins here; False where the stream ends before it, or it is damaged.
_TAKE: dict[Kind | None, Callable[[_Reader], bool]] = {"JPEG": _take_jpeg, "PNG": _take_png}
