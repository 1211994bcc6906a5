from __future__ import annotations

import io
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.imaging.encoded import split_images

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encode(suffix: str, *flags: int) -> bytes:
    return cv2.imencode(suffix, IMAGE, flags)[1].tobytes()


JPEG = encode(".jpg")
PROGRESSIVE = encode(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
PNG = encode(".png")
THUMBNAIL = JPEG[:2] + b"\xff\xe1" + (2 + len(JPEG)).to_bytes(2, "big") + JPEG + JPEG[2:]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_images_back_to_back_come_apart_whatever_the_pieces(size: int) -> None:
    images = [JPEG, PNG, PROGRESSIVE, THUMBNAIL, PNG, JPEG]
    assert list(split_images(pieces(b"".join(images), size))) == images


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp"])
def test_any_other_kind_is_one_image(suffix: str) -> None:
    data = encode(suffix)
    assert list(split_images(pieces(data, 100))) == [data]
    assert decode_image(data).shape == IMAGE.shape


@pytest.mark.parametrize("tail", [JPEG[:-2], PNG[:-1], b"\n", b"no image"])
def test_what_is_no_image_at_the_end_comes_out_as_it_is(tail: bytes) -> None:
    *whole, last = split_images([PNG + JPEG + tail])
    assert (whole, last) == ([PNG, JPEG], tail)
    with pytest.raises(DataError):
        decode_image(last)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
def test_a_second_image_behind_the_first_is_not_passed_over(suffix: str) -> None:
    """As from a program that appends to a file where it should replace it."""
    data = encode(suffix)
    with pytest.raises(DataError, match="more than one image"):
        decode_image(data + data)
    assert decode_image(data + b"some cameras append data").shape == IMAGE.shape


def test_smaller_copies_behind_a_picture_are_no_other_images() -> None:
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "MPO", save_all=True, append_images=[Image.fromarray(IMAGE[::2, ::2].copy())])
    assert decode_image(buffer.getvalue()).shape == IMAGE.shape


def test_nothing_is_no_image() -> None:
    assert list(split_images([])) == []
    assert list(split_images([b""])) == []


def test_decodes() -> None:
    np.testing.assert_array_equal(decode_image(PNG), IMAGE)
    assert decode_image(JPEG + b"some cameras append data").shape == IMAGE.shape
    grey = cv2.imencode(".png", IMAGE[:, :, 0])[1].tobytes()
    np.testing.assert_array_equal(decode_image(grey)[:, :, 2], IMAGE[:, :, 0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"no image that OpenCV can decode \(0 bytes\)"),
        (b"text", "no image that OpenCV can decode"),
        (JPEG[: len(JPEG) // 2], "cut off before its end"),
        (PNG[: len(PNG) // 2], "cut off before its end"),
        (cv2.imencode(".png", np.zeros((4, 4, 4), np.uint8))[1].tobytes(), "partly transparent"),
    ],
)
def test_what_is_no_image(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(data)


def test_an_endless_image_is_refused() -> None:
    with pytest.raises(DataError, match="more than 1 MiB"):
        list(split_images(iter(lambda: bytes(65536), None), max_bytes=1 << 20))


LARGE = [
    cv2.imencode(suffix, np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8))[1].tobytes()
    for suffix in (".png", ".jpg")
]


@pytest.mark.parametrize(
    "large",
    [
        *LARGE,
        THUMBNAIL[: 6 + len(JPEG)] + LARGE[1][2:],
        PNG[:8] + (1 << 31).to_bytes(4, "big") + b"IDAT" + bytes(50_000),
        b"\xff\xd8\xff\xe0" + bytes(50_000),
    ],
    ids=["PNG", "JPEG", "JPEG with a thumbnail", "a chunk of 2 GiB", "nothing after its start"],
)
def test_an_image_above_the_limit_is_one_error_and_the_rest_go_on(large: bytes) -> None:
    images = split_images(pieces(PNG + large + JPEG + large + PNG, 1000), max_bytes=20_000)
    found: list[bytes | str] = []
    for _ in range(5):
        try:
            found.append(next(images))
        except DataError as error:
            found.append(str(error))
    refused = f"an image has more than {20_000 / 2**20:g} MiB; send it smaller"
    assert found == [PNG, refused, JPEG, refused, PNG]
    assert next(images, None) is None


@pytest.mark.parametrize(
    ("damaged", "n_errors"),
    [
        (JPEG[: len(JPEG) // 2], 1),
        (PNG[: len(PNG) // 2], 1),
        (PNG[:8] + b"\x40" + PNG[9:], 1),  # the length of the first chunk
        (PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:], 1),  # its checksum tells
        (JPEG[:20] + b"\0" + JPEG[20:], 1),
        (b"\n", 1),
        (b"no image", 1),
    ],
)
def test_a_damaged_image_costs_no_other_one(damaged: bytes, n_errors: int) -> None:
    n_good = n_bad = 0
    for data in split_images(pieces(PNG + damaged + JPEG + damaged + PNG, 100)):
        try:
            decode_image(data)
            n_good += 1
        except DataError:
            n_bad += 1
    assert (n_good, n_bad) == (3, 2 * n_errors)
