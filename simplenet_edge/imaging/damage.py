"""Damage that decoders pass over in silence: data that is too short, and runs that no encoder writes.

JPEG has no checksum. Its decoder goes on after damaged bytes and finds its place again, the picture wrong in between;
what libjpeg notices itself, `decode` turns into an error. Zeroed bytes, the commonest damage (a lost block, a hole in a
file), are valid codes to it, and are found here.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.headers import START_OF_SCAN, Header, Tiff, jpeg_segments, kind_of, pnm_header

__all__ = ["check_data"]

_RUN = re.compile(rb"(.)\1{15}", re.DOTALL)
"""16 equal bytes: 128 bits of which one code after another would have to look the same."""
_EQUAL_WORD = 0x0101010101010101
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_HUFFMAN_TABLES = 0xC4
_COMPRESSION, _UNCOMPRESSED, _DEFLATE = 259, 1, (8, 32946)  # TIFF
_MOST_PIXEL_BYTES, _MOST_TILE = 8, 1 << 24  # what a strip may inflate to
_INFLATE_BYTES = 1 << 20
_PLACES = ((273, 279), (324, 325))  # TIFF tags: offsets and byte counts, of strips and of tiles

_Codes = dict[int, str]  # of one Huffman table: the bits of each symbol


def check_data(data: bytes, header: Header) -> None:
    """Raise DataError for an image whose data are shorter than its header says, or that has runs of equal bytes where
    a JPEG can't have any. Of a JPEG, one that `encoded.check_whole` has let pass.
    """
    try:
        if header.kind == "JPEG":
            _check_scans(data)
        elif header.kind == "PNM":
            _check_pnm(data)
        elif (end := _declared_end(data, header)) > len(data):
            raise DataError(
                f"the image is cut off before its end, after {len(data)} of {end} bytes; copy or send it again"
            )
        elif end and kind_of(data[end : end + 16]) == header.kind:
            raise DataError("holds more than one image, of which only one would be inspected; send or save each alone")
        elif header.kind == "TIFF":
            _check_compressed_tiff(data, header)
    except (struct.error, IndexError, ValueError):  # from a table that is not one
        raise DataError(f"this {header.kind} is damaged before its pixels; copy or send it again") from None


def _declared_end(data: bytes, header: Header) -> int:
    """Where the pixels of a TIFF, BMP or WebP end, as far as it says."""
    if header.kind == "WebP":
        return 8 + int.from_bytes(data[4:8], "little")
    if header.kind == "BMP":
        is_old = data[14] == 12
        bits = int.from_bytes(data[24:26] if is_old else data[28:30], "little")
        is_packed = not is_old and data[30] in (1, 2, 4, 5)  # compressed
        row = (header.size_wh[0] * bits + 31) // 32 * 4
        return int.from_bytes(data[10:14], "little") + (0 if is_packed else row * header.size_wh[1])
    if header.kind == "TIFF":
        tiff = Tiff(data)
        tags = ((tag.offset, tag.width * tag.n_values) for tag in tiff.pages[0].values())
        return max(start + count for start, count in itertools.chain(tags, _strips(tiff)))
    return 0


def _check_compressed_tiff(data: bytes, header: Header) -> None:
    """Deflate's checksums, and libtiff's errors, which OpenCV passes over both. What Pillow doesn't read, such as
    colours of 16 bits with LZW, is not checked.
    """
    tiff = Tiff(data)
    compression = tiff.value(0, _COMPRESSION, _UNCOMPRESSED)
    try:
        if compression in _DEFLATE:
            most = _MOST_PIXEL_BYTES * (header.size_wh[0] * header.size_wh[1] + _MOST_TILE)
            for start, count in _strips(tiff):
                most -= _inflated(data[start : start + count], most)
        elif compression != _UNCOMPRESSED:
            from PIL.TiffImagePlugin import TiffImageFile

            try:
                image = TiffImageFile(io.BytesIO(data))
            except (SyntaxError, ValueError, TypeError, KeyError):
                return
            image.load()
    except (OSError, ValueError, zlib.error) as error:
        raise DataError(f"the TIFF is damaged ({error}); copy or send it again") from None


def _strips(tiff: Tiff) -> Iterator[tuple[int, int]]:
    """Offset and length of each strip or tile."""
    return itertools.chain.from_iterable(zip(tiff.values(0, a), tiff.values(0, b), strict=False) for a, b in _PLACES)


def _inflated(strip: bytes, most: int) -> int:
    """How many bytes a strip inflates to; ValueError for more than `most` and for one without its end."""
    inflater, n_bytes = zlib.decompressobj(), 0
    while strip and n_bytes <= most:
        n_bytes += len(inflater.decompress(strip, _INFLATE_BYTES))
        strip = inflater.unconsumed_tail
    if not inflater.eof:
        raise ValueError("a strip without its end")
    return n_bytes


def _check_pnm(data: bytes) -> None:
    width, height, largest, start = pnm_header(data)
    form, samples = data[1:2], width * height * (3 if data[1:2] in b"36" else 1)
    if form in b"123":  # as text
        text = re.sub(rb"#[^\n]*", b"", data[start:])
        rest = (len(b"".join(text.split())) if form == b"1" else len(text.split())) - samples
    else:
        wanted = (width + 7) // 8 * height if form == b"4" else samples * (2 if largest > 255 else 1)
        rest = len(data) - start - wanted
        rest = len(data[len(data) - rest :].strip()) if rest > 0 else rest
    if rest < 0:
        raise DataError(f"the image is cut off before its end, after {len(data)} bytes; copy or send it again")
    if rest > 0:
        raise DataError("has more after its pixels, which would not be inspected; save one image per file")


def _check_scans(data: bytes) -> None:
    frame, tables, head = b"", dict[int, _Codes](), b""
    process = 0
    for marker, start, end in jpeg_segments(data):
        if marker == _HUFFMAN_TABLES:
            tables.update(_huffman_tables(data[start:end]))
        elif marker in (_BASELINE, _EXTENDED, _PROGRESSIVE):
            process, frame = marker, data[start:end]
        elif marker == START_OF_SCAN:
            head = data[start:end]
        elif marker == 0 and frame and not (process == _PROGRESSIVE and (head[-3] == 0 or head[-1] >> 4)):
            # what is left out: raw bits of a progressive scan, which may be anything, and its means
            run = _equal_run(data[start:end], _flat_bits(frame, head, tables, process == _PROGRESSIVE))
            if run is not None:
                raise DataError(
                    f"the JPEG is damaged: 16 equal bytes at its byte {start + run}, which no encoder writes; copy or "
                    "send it again"
                )


def _equal_run(scan: bytes, flat: str) -> int | None:
    """Where 16 equal bytes begin that aren't a flat area, whose codes are the bits `flat` again and again."""
    words = np.frombuffer(scan, "<u8", len(scan) // 8)
    for at in np.flatnonzero(words == (words & 0xFF) * np.uint64(_EQUAL_WORD)):
        run = _RUN.search(scan, max(0, int(at) * 8 - 15), int(at) * 8 + 23)
        if run and not (flat and f"{run[1][0]:08b}" * len(flat) in flat * (2 * 8)):
            return run.start()
    return None


def _flat_bits(frame: bytes, head: bytes, tables: dict[int, _Codes], progressive: bool) -> str:
    """The bits of one unit of blocks that are as the ones before: no change of the mean, nothing else."""
    sampling = {frame[6 + 3 * i]: (frame[7 + 3 * i] >> 4) * (frame[7 + 3 * i] & 15) for i in range(frame[5])}
    bits = ""
    for position in range(1, 1 + 2 * head[0], 2):
        component, table = head[position], head[position + 1]
        mean = "" if progressive else tables.get(table >> 4, {}).get(0, "")
        rest = tables.get(0x10 | table & 15, {}).get(0, "")
        bits += (mean + rest) * (sampling.get(component, 1) if head[0] > 1 else 1)
    return bits


def _huffman_tables(body: bytes) -> dict[int, _Codes]:
    """The tables of one segment, by their class (0x10: AC) and number."""
    tables = {}
    while len(body) > 16:
        code, symbols, codes = 0, iter(body[17:]), _Codes()
        for length, count in enumerate(body[1:17], start=1):
            for symbol in [next(symbols, 0) for _ in range(count)]:
                codes[symbol] = f"{code:0{length}b}"
                code += 1
            code <<= 1
        tables[body[0]] = codes
        body = body[17 + sum(body[1:17]) :]
    return tables
