from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_image, read_mask, to_bgr


def encode(image: np.ndarray, suffix: str, options: tuple[int, ...] = ()) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    assert done
    return data.tobytes()


def encode_with_pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, colour_type: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG put together by hand: 8 bits a sample, `rows` before compression, `extra` chunks before the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
    middle = b"".join(chunk(kind, body) for kind, body in extra) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IEND", b"")


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


PALETTE = (b"PLTE", bytes([255, 0, 0, 0, 128, 0]))  # red, dark green, as RGB


# --- to_bgr


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_grey_becomes_three_equal_channels(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    grey = rng.integers(0, 255, shape, dtype=np.uint8)
    image = to_bgr(grey)
    assert image.shape == (4, 5, 3)
    assert all(np.array_equal(image[:, :, channel], grey.reshape(4, 5)) for channel in range(3))


def test_16_bits_become_their_upper_8() -> None:
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    assert to_bgr(deep)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_of_fewer_bits_the_upper_8_are_kept() -> None:
    assert to_bgr(np.array([[0, 15, 16, 4095]], np.uint16), 12)[0, :, 0].tolist() == [0, 0, 1, 255]
    assert to_bgr(np.array([[0, 255]], np.uint16), 8)[0, :, 0].tolist() == [0, 255]
    opaque = np.dstack([np.full((2, 2, 3), 4095, np.uint16), np.full((2, 2), 65535, np.uint16)])
    assert to_bgr(opaque, 12).tolist() == np.full((2, 2, 3), 255).tolist()


def test_values_above_the_bit_depth_are_refused() -> None:
    with pytest.raises(DataError, match=r"at most 4095 .*--bit-depth 12.* found 4096"):
        to_bgr(np.array([[0, 4096]], np.uint16), 12)


def test_opaque_alpha_is_dropped_and_the_result_is_contiguous(picture: np.ndarray) -> None:
    image = to_bgr(np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]))
    assert np.array_equal(image, picture)
    assert image.flags.c_contiguous


def test_16_bit_opaque_alpha_is_dropped() -> None:
    assert to_bgr(np.full((2, 2, 4), 65535, np.uint16)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.dstack([np.zeros((3, 3, 3), np.uint8), np.full((3, 3), 254, np.uint8)]), "partly transparent"),
        (np.zeros((3, 3, 3), np.float32), "float32"),
        (np.zeros((3, 3), np.int16), "int16"),
        (np.zeros((3, 3), np.bool_), "bool"),
        (np.zeros((3, 3, 2), np.uint8), "(3, 3, 2)"),
        (np.zeros((0, 3, 3), np.uint8), "(0, 3, 3)"),
        (np.zeros((2, 3, 3, 3), np.uint8), "(2, 3, 3, 3)"),
    ],
)
def test_pixels_without_one_meaning_are_refused(image: np.ndarray, complaint: str) -> None:
    with pytest.raises(DataError) as caught:
        to_bgr(image)
    assert complaint in str(caught.value)


# --- read_image: what is accepted


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_formats_come_back_bit_equal(suffix: str, picture: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read_image(written(tmp_path, f"part{suffix}", encode(picture, suffix))), picture)


@pytest.mark.parametrize(
    "options",
    [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)],
    ids=["baseline", "progressive", "restart markers"],
)
@pytest.mark.parametrize("size_hw", [(60, 90), (7, 13), (1, 1)], ids=str)
def test_jpegs_of_any_size(
    options: tuple[int, ...], size_hw: tuple[int, int], picture: np.ndarray, tmp_path: Path
) -> None:
    cut = picture[: size_hw[0], : size_hw[1]]
    image = read_image(written(tmp_path, "part.jpg", encode(cut, ".jpg", options)))
    assert image.shape == cut.shape
    assert np.abs(image.astype(int) - cut).mean() < 4


def test_cmyk_jpeg_is_read_as_bgr(picture: np.ndarray, tmp_path: Path) -> None:
    data = encode_with_pillow(Image.fromarray(picture[:, :, ::-1]).convert("CMYK"), "JPEG", quality=95)
    image = read_image(written(tmp_path, "part.jpg", data))
    assert np.abs(image.astype(int) - picture).mean() < 4


@pytest.mark.parametrize(
    "transparency",
    [(), ((b"tRNS", bytes([255, 255])),)],  # without alpha, with an alpha that is opaque
)
def test_palette_png_is_read_as_its_colours(transparency: tuple[tuple[bytes, bytes], ...], tmp_path: Path) -> None:
    data = png(2, 2, 3, b"\0\0\1" + b"\0\1\0", PALETTE, *transparency)
    red, green = [0, 0, 255], [0, 128, 0]
    assert read_image(written(tmp_path, "part.png", data)).tolist() == [[red, green], [green, red]]


def test_16_bit_png(tmp_path: Path) -> None:
    image = read_image(written(tmp_path, "part.png", encode(np.full((4, 4), 0xAB12, np.uint16), ".png")))
    assert image.shape == (4, 4, 3)
    assert np.all(image == 0xAB)


def test_name_outside_ascii(picture: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read_image(written(tmp_path, "Prüfling 零件 №1.png", encode(picture, ".png"))), picture)


@pytest.mark.parametrize("n_fill_bytes", [1, 2, 7])
def test_jpeg_with_fill_bytes_before_its_markers(n_fill_bytes: int, picture: np.ndarray, tmp_path: Path) -> None:
    data = encode(picture, ".jpg")
    quantisation = data.index(b"\xff\xdb")
    filled = data[:quantisation] + b"\xff" * n_fill_bytes + data[quantisation:]
    assert read_image(written(tmp_path, "part.jpg", filled)).shape == picture.shape
    with pytest.raises(DataError, match="cut off"):
        read_image(written(tmp_path, "half.jpg", filled[: len(filled) // 2]))


def test_jpeg_with_data_behind_its_end(picture: np.ndarray, tmp_path: Path) -> None:
    data = encode(picture, ".jpg") + bytes(100_000)
    assert read_image(written(tmp_path, "part.jpg", data)).shape == picture.shape


# --- read_image: what is refused


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_file_cut_off_is_refused(suffix: str, keep: float, picture: np.ndarray, tmp_path: Path) -> None:
    data = encode(picture, suffix)
    path = written(tmp_path, f"part{suffix}", data[: int(len(data) * keep)])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("lost", [1, 2, 12])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_last_bytes_count(suffix: str, lost: int, picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cut off"):
        read_image(written(tmp_path, f"part{suffix}", encode(picture, suffix)[:-lost]))


def test_jpeg_cut_off_behind_its_thumbnail(picture: np.ndarray, tmp_path: Path) -> None:
    thumbnail = encode(picture[:8, :8], ".jpg")
    data = encode(picture, ".jpg")
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail + data[2:]
    assert read_image(written(tmp_path, "whole.jpg", with_thumbnail)).shape == picture.shape
    with pytest.raises(DataError, match="cut off"):
        read_image(written(tmp_path, "half.jpg", with_thumbnail[: len(with_thumbnail) - len(data) // 2]))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("zero_bytes.png", b""),
        ("text.png", b"not an image\n" * 20),
        ("html.jpg", b"<!DOCTYPE html><title>404</title>"),
        ("png_signature_only.png", b"\x89PNG\r\n\x1a\n"),
        ("jpeg_signature_only.jpg", b"\xff\xd8"),
        ("jpeg_without_pixels.jpg", b"\xff\xd8\xff\xd9"),
        ("jpeg_of_zero_length_segments.jpg", b"\xff\xd8" + b"\xff\xe0\0\0" * 5),
        ("jpeg_of_fill_bytes.jpg", b"\xff\xd8" + b"\xff" * 50),
        ("transparent.png", png(2, 2, 3, b"\0\0\1" + b"\0\1\0", PALETTE, (b"tRNS", b"\0\xff"))),
        ("too_few_rows.png", png(2, 9, 0, b"\0\1\2")),
        ("sixty_thousand_squared.png", png(60_000, 60_000, 2, b"\0")),
        ("float.tif", encode(np.ones((3, 3), np.float32), ".tif")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_image_no_traceback(name: str, data: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, name, data)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [read_image, read_mask])
def test_no_file_and_a_folder_in_its_place(reader: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(DataError, match="can't be read"):
            reader(path)


def test_opencv_prints_nothing_of_its_own(picture: np.ndarray, tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        data = encode(picture, suffix)
        written(tmp_path, f"half{suffix}", data[: len(data) // 2])
    written(tmp_path, "text.png", b"text")
    script = """
import sys
from pathlib import Path
from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import read_image
for path in Path(sys.argv[1]).iterdir():
    try:
        read_image(path)
    except DataError:
        print("refused")
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stdout.split() == ["refused"] * 6
    assert done.stderr == ""


# --- masks


@pytest.mark.parametrize(
    "data",
    [
        encode(np.array([[0, 255], [0, 1]], np.uint8), ".png"),  # VisA's masks hold small numbers, not 255
        encode(np.array([[0, 65535], [0, 1]], np.uint16), ".png"),
        encode(np.array([[[0, 0, 0], [0, 0, 9]], [[0, 0, 0], [7, 0, 0]]], np.uint8), ".png"),
        encode(np.array([[[0, 0, 0, 255], [0, 0, 9, 255]], [[0, 0, 0, 255], [7, 0, 0, 255]]], np.uint8), ".png"),
        png(2, 2, 3, b"\0\0\1" + b"\0\0\1", (b"PLTE", bytes([0, 0, 0, 128, 0, 0]))),
    ],
    ids=["grey", "16 bits", "colour", "opaque alpha", "palette"],
)
def test_a_mask_is_where_any_channel_is_not_zero(data: bytes, tmp_path: Path) -> None:
    mask = read_mask(written(tmp_path, "mask.png", data))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, True], [False, True]]


def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(DataError, match="no regular file"):
            read_image(tmp_path / name)
