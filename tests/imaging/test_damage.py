"""Damage to the bytes of an image: what is told, and what no decoder can know."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.decode import decode_image

PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8), (0, 0), 2)
JPEG_OPTIONS = {
    "baseline": (),
    "quality 75": (cv2.IMWRITE_JPEG_QUALITY, 75),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "restart markers": (cv2.IMWRITE_JPEG_RST_INTERVAL, 5),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
}


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def with_pillow(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE[:, :, ::-1]).save(buffer, kind, **options)
    return buffer.getvalue()


def is_refused(data: bytes) -> bool:
    try:
        decode_image(data)
    except DataError:
        return True
    return False


@pytest.mark.parametrize("options", JPEG_OPTIONS.values(), ids=JPEG_OPTIONS)
@pytest.mark.parametrize("image", [PICTURE, PICTURE[:, :, 0]], ids=["colour", "grey"])
def test_jpegs_are_the_same_pixels_as_opencv_gives(image: np.ndarray, options: tuple[int, ...]) -> None:
    data = jpeg(image, *options)
    np.testing.assert_array_equal(decode_image(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("kind", [kind for kind in JPEG_OPTIONS if kind != "progressive"])
@pytest.mark.parametrize("n_bytes", [40, 200, 1000])
def test_zeros_in_a_jpeg_are_found_wherever_they_are(n_bytes: int, kind: str) -> None:
    data = jpeg(PICTURE, *JPEG_OPTIONS[kind])
    for place in np.linspace(0.2, 0.9, 20):
        start = int(len(data) * place)
        assert is_refused(data[:start] + bytes(n_bytes) + data[start + n_bytes :])


@pytest.mark.parametrize("options", JPEG_OPTIONS.values(), ids=JPEG_OPTIONS)
def test_the_second_half_of_a_jpeg_zeroed_or_lost(options: tuple[int, ...]) -> None:
    data = jpeg(PICTURE, *options)
    middle = len(data) // 2
    assert is_refused(data[:middle] + bytes(len(data) - middle - 2) + data[-2:])
    assert is_refused(data[:middle] + data[-2:])
    assert is_refused(data[:middle])


@pytest.mark.parametrize("options", JPEG_OPTIONS.values(), ids=JPEG_OPTIONS)
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_flat_pictures_are_no_damage(channels: int, level: int, options: tuple[int, ...]) -> None:
    flat = np.full((480, 640, channels), level, np.uint8)
    assert decode_image(jpeg(flat, *options)).shape == (480, 640, 3)


@pytest.mark.parametrize("options", JPEG_OPTIONS.values(), ids=JPEG_OPTIONS)
@pytest.mark.parametrize("quality", [5, 50, 100])
def test_drawn_pictures_are_no_damage(quality: int, options: tuple[int, ...]) -> None:
    stripes = np.where(np.arange(640) // 8 % 2, 200, 40).astype(np.uint8)
    for image in (
        np.tile(stripes, (480, 1)),
        np.tile(stripes[:480, None], (1, 640)),
        np.eye(512, dtype=np.uint8) * 255,
    ):
        assert decode_image(jpeg(image, *options, cv2.IMWRITE_JPEG_QUALITY, quality)).shape[:2] == image.shape


def test_what_libjpeg_warns_of_is_an_error() -> None:
    data = jpeg(PICTURE)
    with pytest.raises(DataError, match="extraneous bytes"):
        decode_image(data[:-2] + b"some bytes more" + data[-2:])
    assert simplejpeg.decode_jpeg(data[:-2] + b"some bytes more" + data[-2:], strict=False).shape == PICTURE.shape


@pytest.mark.parametrize(
    "data",
    [
        cv2.imencode(".png", PICTURE)[1].tobytes(),
        with_pillow("TIFF", compression="tiff_adobe_deflate"),
    ],
    ids=["PNG", "TIFF with Deflate"],
)
@pytest.mark.parametrize("seed", range(5))
def test_checksums_find_every_damage_to_the_pixels(seed: int, data: bytes) -> None:
    rng = np.random.default_rng(seed)
    start, end = len(data) // 10, len(data) * 8 // 10
    for _ in range(20):
        place, n_bytes = int(rng.integers(start, end)), int(rng.integers(1, 500))
        flipped = data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :]
        noise = rng.integers(0, 256, n_bytes, dtype=np.uint8).tobytes()
        assert is_refused(flipped)
        assert is_refused(data[:place] + noise + data[place + n_bytes :])
        assert is_refused(data[:place] + data[place + n_bytes :])
        assert is_refused(data[:place] + noise + data[place:])
        assert is_refused(data[:place] + data[place - n_bytes : place] + data[place:])


def test_errors_of_libtiff_that_opencv_passes_over() -> None:
    data = with_pillow("TIFF", compression="tiff_lzw")
    middle = len(data) // 2
    damaged = data[:middle] + bytes(500) + data[middle + 500 :]
    assert cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_UNCHANGED) is not None
    with pytest.raises(DataError, match="the TIFF is damaged"):
        decode_image(damaged)


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".webp", ".ppm"])
@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_what_is_too_short_is_refused(keep: float, suffix: str) -> None:
    data = cv2.imencode(suffix, PICTURE)[1].tobytes()
    assert not is_refused(data)
    assert is_refused(data[: int(len(data) * keep)])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".pgm", ".pbm"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of a damaged TIFF
def test_no_damage_ends_in_anything_but_a_data_error(suffix: str) -> None:
    data = cv2.imencode(suffix, PICTURE[:30, :40, 0])[1].tobytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 200), 3):
            damaged[place] = int(rng.integers(256))
        is_refused(bytes(damaged))
