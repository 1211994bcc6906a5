from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import DataError
from simplenet_edge.imaging import encoded
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


def test_an_endless_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "MAX_IMAGE_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more than 1 MiB"):
        list(split_images(iter(lambda: bytes(65536), None)))
