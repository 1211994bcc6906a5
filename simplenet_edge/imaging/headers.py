"""What an encoded image says of itself before it is decoded: its kind, size, bits and orientation. Pure Python.

Read from the first bytes and the tags alone, so that a small file that declares a huge image costs nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from simplenet_edge.errors import DataError

__all__ = [
    "JPEG_MARKER",
    "ORIENTATION",
    "START_OF_SCAN",
    "Header",
    "Kind",
    "Tiff",
    "jpeg_segments",
    "kind_of",
    "png_chunks",
    "pnm_header",
    "read_header",
]

ORIENTATION = 274
"""The tag of TIFF and EXIF."""

START_OF_SCAN = 0xDA
JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""The end of a scan's data: not a stuffed FF, a fill byte or a restart."""

Kind = Literal["JPEG", "PNG", "TIFF", "BMP", "WebP", "PNM"]


class Header(NamedTuple):
    """What the image declares, before anything is decoded."""

    kind: Kind
    size_wh: tuple[int, int]
    """Pixels as stored, before they are turned upright."""
    bits: int = 8
    """Of one sample: 16 where the decoder will give 16-bit pixels."""
    orientation: int = 1
    """EXIF's 1 to 8; 1 is upright."""


_MAGIC: tuple[tuple[Kind, re.Pattern[bytes]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("BMP", re.compile(rb"BM")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("PNM", re.compile(rb"P[1-6]\s")),
)
_PNM_NUMBER = re.compile(rb"(?:\s|#[^\n]*\n)*(\d+)")
_FRAMES_OF_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are tables
_END_OF_JPEG = 0xD9
_WIDTH, _HEIGHT, _BITS, _SUBFILE = 256, 257, 258, 254  # TIFF tags
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MOST_TILE = 4096 * 4096  # a decoder takes memory for a whole one, however small the image
_FIELD_BYTES = {1: 1, 3: 2, 4: 4, 16: 8}  # TIFF types of whole numbers: byte, short, long, long8
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST_PAGES = 8  # that are looked at; a TIFF's may be a ring


def kind_of(data: bytes | bytearray) -> Kind | None:
    """The kind of image that begins here, by its first bytes; None for anything else."""
    return next((kind for kind, magic in _MAGIC if magic.match(data)), None)


def read_header(data: bytes) -> Header:
    """What the image declares; of a JPEG or a PNG, one that `encoded.check_whole` has let pass.

    Raises DataError for what is none of the kinds, is cut off in its header, or holds more than one image: those after
    the first would never be inspected.
    """
    kind = kind_of(data)
    if kind is None:
        raise DataError(
            f"is no image that OpenCV can decode ({len(data)} bytes); expected a JPEG, PNG, TIFF, BMP, WebP or PNM "
            "(.pgm, .ppm) image: remove it, or copy or send it again"
        )
    try:
        header = _READERS[kind](data)
    except (struct.error, IndexError):
        raise DataError(f"the header of this {kind} is damaged or cut off; copy or send it again") from None
    if min(header.size_wh) < 1:
        raise DataError(f"the header of this {kind} declares an image without pixels; copy it again")
    return header if 1 <= header.orientation <= 8 else header._replace(orientation=1)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment of a whole JPEG: its marker, and where its body begins and ends; the data of a scan as marker 0."""
    position = 2
    while data[position + 1] != _END_OF_JPEG:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        yield marker, position + 4, end
        if marker == START_OF_SCAN:
            position, end = end, JPEG_MARKER.search(data, end).start()  # type: ignore[union-attr]
            yield 0, position, end
        position = end


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk of a whole PNG up to its end: the name, and where its body begins and ends."""
    position, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, position + 8, position + 8 + length
        position += 12 + length


def pnm_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height and the largest value of a PNM, and where its pixels begin."""
    numbers, position = [], 2
    for _ in range(2 if data[1:2] in b"14" else 3):
        match = _PNM_NUMBER.match(data, position)
        if match is None or len(match[1]) > 9:
            raise IndexError
        numbers.append(int(match[1]))
        position = match.end()
    return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 1, position + 1


class TiffTag(NamedTuple):
    """Where the values of a tag of whole numbers are written: offset, bytes of each, and how many there are."""

    offset: int
    width: int
    n_values: int


class Tiff:
    """The tags of each page of a TIFF, or of EXIF data that begin at `start`. Raises struct.error."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self.order: Literal["<", ">"] = "<" if data[start : start + 1] == b"I" else ">"
        self.pages: list[dict[int, TiffTag]] = []
        is_big = 43 in data[start + 2 : start + 4]
        number, n_tags, inline, first = ("Q", "Q", 8, 8) if is_big else ("I", "H", 4, 4)
        (page,) = struct.unpack_from(self.order + number, data, start + first)
        while page and len(self.pages) < _MOST_PAGES:
            self.pages.append({})
            (count,) = struct.unpack_from(self.order + n_tags, data, start + page)
            entry = start + page + struct.calcsize(n_tags)
            for _ in range(count):
                tag, kind, n_values, place = struct.unpack_from(f"{self.order}HH{number}{number}", data, entry)
                if kind in _FIELD_BYTES:
                    fits = n_values * _FIELD_BYTES[kind] <= inline
                    offset = entry + 4 + inline if fits else start + place
                    self.pages[-1][tag] = TiffTag(offset, _FIELD_BYTES[kind], n_values)
                entry += 4 + 2 * inline
            (page,) = struct.unpack_from(self.order + number, data, entry)

    def values(self, page: int, tag: int) -> list[int]:
        """The values of a tag of a page; none where it is not there."""
        if tag not in self.pages[page]:
            return []
        offset, width, count = self.pages[page][tag]
        if offset + width * count > len(self._data):  # before memory is taken for them
            raise struct.error
        return list(struct.unpack_from(f"{self.order}{count}{_UNSIGNED[width]}", self._data, offset))

    def value(self, page: int, tag: int, default: int) -> int:
        """The first value of a tag of a page."""
        return (self.values(page, tag) or [default])[0]


def _exif_orientation(data: bytes, start: int) -> int:
    """The orientation in EXIF data that begins at `start`; 1 where it says nothing that can be read."""
    try:
        exif = Tiff(data, start)
        return exif.value(0, ORIENTATION, 1) if exif.pages else 1
    except struct.error:
        return 1


def _jpeg(data: bytes) -> Header:
    size_wh, orientation = (0, 0), 1
    for marker, start, _ in jpeg_segments(data):
        if marker == START_OF_SCAN:
            break
        if marker in _FRAMES_OF_JPEG:
            height, width = struct.unpack_from(">HH", data, start + 1)
            size_wh = width, height
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start) and orientation == 1:
            orientation = _exif_orientation(data, start + 6)
    return Header("JPEG", size_wh, 8, orientation)


def _png(data: bytes) -> Header:
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    orientation = 1
    for name, start, _ in png_chunks(data):
        if name == b"eXIf":
            orientation = _exif_orientation(data, start)
        elif name == b"acTL":
            raise DataError("is an animated PNG, of which only one picture would be inspected; save each as a file")
    return Header("PNG", (width, height), bits, orientation)


def _tiff(data: bytes) -> Header:
    tiff = Tiff(data)
    if not tiff.pages:
        raise IndexError
    pages = [page for page in range(len(tiff.pages)) if not (page and tiff.value(page, _SUBFILE, 0) & 1)]
    if len(pages) > 1:  # bit 0 marks a smaller copy of another page
        raise DataError(f"is a TIFF of {len(pages)} pages, of which only one would be inspected; save each as a file")
    if tiff.value(0, _TILE_WIDTH, 0) * tiff.value(0, _TILE_HEIGHT, 0) > _MOST_TILE:
        raise DataError(f"is a TIFF with a tile of more than {_MOST_TILE} pixels; save it in smaller tiles")
    size_wh = tiff.value(0, _WIDTH, 0), tiff.value(0, _HEIGHT, 0)
    return Header("TIFF", size_wh, tiff.value(0, _BITS, 1), tiff.value(0, ORIENTATION, 1))


def _bmp(data: bytes) -> Header:
    (length,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return Header("BMP", (width, abs(height)))  # below 0: the rows come from the top


def _webp(data: bytes) -> Header:
    size_wh, orientation, position = (0, 0), 1, 12
    (end,) = struct.unpack_from("<I", data, 4)
    while position + 8 <= min(8 + end, len(data)):
        name, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if name == b"VP8X":
            flags, width, height = data[start], data[start + 4 : start + 7], data[start + 7 : start + 10]
            if flags & 2:
                raise DataError("is an animated WebP, of which only one picture would be inspected; save each as one")
            found = int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        elif name == b"VP8L":
            (packed,) = struct.unpack_from("<I", data, start + 1)
            found = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif name == b"VP8 ":
            width_scaled, height_scaled = struct.unpack_from("<HH", data, start + 6)
            found = width_scaled & 0x3FFF, height_scaled & 0x3FFF
        else:
            found = 0, 0
            if name == b"EXIF":
                orientation = _exif_orientation(data, start + 6 * data.startswith(b"Exif\0\0", start))
        size_wh = max(size_wh[0], found[0]), max(size_wh[1], found[1])
        position = start + length + length % 2
    return Header("WebP", size_wh, 8, orientation)


def _pnm(data: bytes) -> Header:
    width, height, largest, _ = pnm_header(data)
    return Header("PNM", (width, height), 16 if largest > 255 else 8)


_READERS = {"JPEG": _jpeg, "PNG": _png, "TIFF": _tiff, "BMP": _bmp, "WebP": _webp, "PNM": _pnm}
