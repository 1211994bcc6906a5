from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.decode import MAX_PIXELS, decode_image, read_image, read_mask
from simplenet_edge.imaging.headers import read_header

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
LOSSLESS: dict[str, Any] = {"WEBP": {"lossless": True}}


def with_orientation(image: Image.Image, kind: str, orientation: int, **options: Any) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    image.save(buffer, kind, exif=exif, **(LOSSLESS.get(kind, {}) | options))
    return buffer.getvalue()


def as_viewers_show_it(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))[:, :, ::-1]


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_each_orientation_is_turned_upright(kind: str, mode: str, orientation: int) -> None:
    data = with_orientation(PICTURE.convert(mode), kind, orientation)
    np.testing.assert_allclose(decode_image(data).astype(int), as_viewers_show_it(data), atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_and_compressed_tiffs_are_turned_too(orientation: int) -> None:
    deep = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    image = decode_image(with_orientation(deep, "TIFF", orientation, compression="tiff_lzw"))
    upright = decode_image(with_orientation(deep, "TIFF", 1))
    expected = as_viewers_show_it(with_orientation(Image.fromarray(upright), "PNG", orientation))
    np.testing.assert_array_equal(image, expected)


def test_a_mask_is_turned_as_its_image_is(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:5, :9] = 255
    path = tmp_path / "mask.png"
    path.write_bytes(with_orientation(Image.fromarray(mask), "PNG", 6))
    np.testing.assert_array_equal(read_mask(path), np.rot90(mask, -1) > 0)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_either_byte_order(order: str) -> None:
    data = with_orientation(PICTURE, "JPEG", 1)
    start = data.index(b"Exif\0\0") + 6
    sign = "<" if order == "II" else ">"
    tiff = order.encode() + struct.pack(sign + "HIHHHIHHI", 42, 8, 1, 274, 3, 1, 8, 0, 0)
    turned = data[: start - 8] + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    body_end = start - 8 + struct.unpack_from(">H", data, start - 8)[0]
    assert read_header(turned + data[body_end:]).orientation == 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none_leaves_the_image_as_it_is(value: int) -> None:
    assert decode_image(with_orientation(PICTURE, "PNG", value)).shape == (20, 30, 3)


def test_exif_that_is_damaged_leaves_the_image_as_it_is() -> None:
    data = with_orientation(PICTURE, "JPEG", 6)
    start = data.index(b"Exif\0\0") + 6
    assert decode_image(data[:start] + b"\xff\0" * 4 + data[start + 8 :]).shape == (20, 30, 3)


# --- size


def png(width: int, height: int, rows: bytes = b"\0") -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def declaring(kind: str, width: int, height: int) -> bytes:
    """A small image of that kind whose header declares another size."""
    image, buffer = PICTURE.resize((16, 16)), io.BytesIO()
    image.save(buffer, "PPM" if kind == "PNM" else kind)
    data = bytearray(buffer.getvalue())
    if kind == "PNG":
        return png(width, height)
    if kind == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif kind == "BMP":
        struct.pack_into("<ii", data, 18, width, -height)  # from the top
    elif kind == "PNM":
        return bytes(data).replace(b"16 16", b"%d %d" % (width, height), 1)
    elif kind == "WEBP":
        struct.pack_into("<HH", data, data.index(b"\x9d\x01\x2a") + 3, width, height)
    else:
        for tag, value in ((256, width), (257, height)):
            entry = next(at for form in (3, 4) if (at := data.find(struct.pack("<HHI", tag, form, 1))) > 0)
            struct.pack_into("<HHII", data, entry, tag, 4, 1, value)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PNM", "WEBP", "TIFF"])
def test_a_declared_size_above_the_limit_is_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    data = declaring(kind, 16000, 16000)
    assert read_header(data).size_wh == (16000, 16000)
    monkeypatch.setattr(cv2, "imdecode", decoded)
    monkeypatch.setattr("simplejpeg.decode_jpeg", decoded)
    with pytest.raises(DataError, match=r"at most 134\.218 megapixels, found 16000x16000, 256"):
        decode_image(data)


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    image = png(1000, 1000, b"".join(b"\0" + bytes(1000) for _ in range(1000)))
    assert MAX_PIXELS == 16384 * 8192
    monkeypatch.setenv("SIMPLENET_EDGE_MAX_MEGAPIXELS", "1")
    assert decode_image(image).shape == (1000, 1000, 3)
    monkeypatch.setenv("SIMPLENET_EDGE_MAX_MEGAPIXELS", "0.9")
    with pytest.raises(DataError, match=r"at most 0\.9 megapixels, found 1000x1000"):
        decode_image(image)


@pytest.mark.parametrize("text", ["", "many", "-1", "0", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLENET_EDGE_MAX_MEGAPIXELS", text)
    with pytest.raises(ConfigError, match="expected millions of pixels"):
        decode_image(png(1, 1, b"\0\0"))


def test_a_file_above_what_pixels_may_take_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(8 * MAX_PIXELS + 1)
    with pytest.raises(DataError, match="expected at most 1073741824 bytes"):
        read_image(path)


def test_an_image_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", full)
    with pytest.raises(DataError, match="don't fit into memory"):
        decode_image(png(1, 1, b"\0\0"))


def test_a_small_tiff_with_a_huge_tile_is_refused() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60000, 323: 60000, 324: 8, 325: 256}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = struct.pack("<2sHI", b"II", 42, 264) + bytes(256) + struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(DataError, match="a tile of more than 16777216 pixels"):
        decode_image(data)


# --- one image per file


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_more_than_one_picture_is_refused(kind: str) -> None:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, save_all=True, append_images=[PICTURE.rotate(180)])
    with pytest.raises(DataError, match="only one"):
        decode_image(buffer.getvalue())


def test_portable_maps() -> None:
    for suffix, data in (
        (".pgm", b"P2\n# text\n2 1\n255\n7 9\n"),
        (".pgm", b"P5 2 1 255\n\x07\x09"),
        (".ppm", b"P6 2 1\n255\n" + bytes([7, 7, 7, 9, 9, 9])),
    ):
        assert decode_image(data).tolist() == [[[7] * 3, [9] * 3]], suffix
    assert decode_image(b"P4 2 1\n\x40").tolist() == [[[255] * 3, [0] * 3]]
    with pytest.raises(DataError, match="cut off"):
        decode_image(b"P5 2 1 255\n\x07")
    with pytest.raises(DataError, match="more after its pixels"):
        decode_image(b"P5 2 1 255\n\x07\x09P5 2 1 255\n\x07\x09")
