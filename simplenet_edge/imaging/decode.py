"""Bytes become images: files, posts and streams alike. Images are uint8 `(H, W, 3)` BGR, masks bool `(H, W)`.

The one door: what comes out is upright as its EXIF orientation says, has no more pixels than `max_pixels`, and comes
from bytes that are whole as far as can be known. JPEGs go through libjpeg-turbo (`simplejpeg`), which says what it
would pass over, everything else through OpenCV; all with the same results in every version of OpenCV.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.imaging.damage import check_data
from simplenet_edge.imaging.encoded import check_whole
from simplenet_edge.imaging.headers import ORIENTATION, Header, Tiff, png_chunks, read_header
from simplenet_edge.spec import Frames

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "StoredImage",
    "check_encoded_size",
    "decode_image",
    "max_pixels",
    "read_encoded",
    "read_image",
    "read_mask",
    "read_pixels",
    "read_stored",
    "to_bgr",
]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
"""File endings, in lower case, that count as images."""

MAX_PIXELS = 16384 * 8192
"""More pixels are refused before anything is decoded: 8192 lines of a 16k line camera, 134 megapixels."""
MAX_MEGAPIXELS_VARIABLE = "SIMPLENET_EDGE_MAX_MEGAPIXELS"
"""The environment variable that sets another limit, in millions of pixels."""

_PIXEL_BYTES = 8  # of 4 channels of 16 bits: what a file may have a pixel
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})  # all that a PNG's pixels come from

# What can't be decoded becomes a DataError; lines on stderr that don't name the file would only repeat it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ:
    if hasattr(cv2, "setLogLevel"):  # up to OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def max_pixels() -> int:
    """How many pixels an image may have: `MAX_PIXELS`, or as the environment says. Raises ConfigError."""
    text = os.environ.get(MAX_MEGAPIXELS_VARIABLE)
    if text is None:
        return MAX_PIXELS
    try:
        pixels = round(float(text) * 1e6)
    except (ValueError, OverflowError):
        pixels = 0
    if pixels < 1:
        raise ConfigError(f"{MAX_MEGAPIXELS_VARIABLE}: expected millions of pixels, such as 200, found {text!r}")
    return pixels


def to_bgr(image: npt.NDArray[Any], bit_depth: int = 16) -> Frames:
    """Any decoded image as uint8 `(H, W, 3)` BGR.

    Grey becomes three equal channels, a fully opaque alpha channel is dropped. Of 16-bit pixels `bit_depth` bits are
    used, of which the upper 8 are kept: 12 for a 12-bit camera whose values end at 4095. Raises DataError for values
    above that, and for anything else.
    """
    if image.dtype == np.uint16:
        image = _upper_8_bits(image, bit_depth)
    if image.dtype != np.uint8:
        raise DataError(f"expected 8- or 16-bit unsigned pixels, found {image.dtype}; convert the image first")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise DataError(f"expected a grey, BGR or BGRA image, found an array of shape {image.shape}")
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 4:
        if image[:, :, 3].min() != 255:
            raise DataError("the image is partly transparent, so its colours are not defined; flatten it first")
        image = image[:, :, :3]
    return np.ascontiguousarray(image)


def _upper_8_bits(image: npt.NDArray[np.uint16], bit_depth: int) -> Frames:
    has_alpha = image.ndim == 3 and image.shape[2] == 4  # full range, whatever the colours use
    colours = image[:, :, :3] if has_alpha else image
    largest = int(colours.max()) if colours.size else 0
    if largest >> bit_depth:
        raise DataError(
            f"expected values of at most {2**bit_depth - 1} in a 16-bit image (--bit-depth {bit_depth}), found "
            f"{largest}: it was not made as the training images were; set the camera as it was then, or train again"
        )
    upper = (colours >> (bit_depth - 8)).astype(np.uint8)
    return np.dstack([upper, (image[:, :, 3] >> 8).astype(np.uint8)]) if has_alpha else upper


def decode_image(data: bytes, bit_depth: int = 16) -> Frames:
    """An encoded image as uint8 `(H, W, 3)` BGR, upright; `bit_depth` as in `to_bgr`.

    Raises DataError for one that is damaged, cut off, too large or transparent, ConfigError for a limit in the
    environment that is no number.
    """
    return to_bgr(_decode(data), bit_depth)


def read_image(path: Path, bit_depth: int = 16) -> Frames:
    """The image file as uint8 `(H, W, 3)` BGR. Raises DataError with the file's name if it can't be used."""
    try:
        return decode_image(read_encoded(path), bit_depth)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


class StoredImage(NamedTuple):
    """The pixels of an image file as they are, `(H, W)` or `(H, W, C)`, upright, and what its header declares."""

    pixels: npt.NDArray[Any]
    header: Header


def read_stored(path: Path) -> StoredImage:
    """The image file before it becomes uint8 BGR (`to_bgr`). Raises DataError with the file's name."""
    try:
        data = read_encoded(path)
        return StoredImage(_decode(data), read_header(data))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_pixels(path: Path) -> npt.NDArray[Any] | None:
    """The pixels of a 16-bit image file as they are, uint16 `(H, W)` or `(H, W, C)`; None for any other. DataError."""
    data = read_encoded(path)
    return _decode(data) if read_header(data).bits > 8 else None


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A ground-truth mask file as bool `(H, W)`, upright: True where any channel is not zero. Raises DataError."""
    try:
        mask = _decode(read_encoded(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(axis=2)
    return np.asarray(mask > 0)


def read_encoded(path: Path) -> bytes:
    """The content of an image file, before it is decoded. Raises DataError where it is too large or can't be read."""
    try:
        about = path.stat()
        size = about.st_size
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device might never end
            raise DataError("can't be read (it is no regular file); copy the image into one")
        check_encoded_size(size)
        return path.read_bytes()
    except MemoryError:
        raise DataError(f"does not fit into memory ({size} bytes); scale the image down") from None
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror}); check the path and its permissions") from error


def check_encoded_size(size: int) -> None:
    """Raise DataError for an image file of more bytes than its pixels can have."""
    if size > _PIXEL_BYTES * max_pixels():
        raise DataError(f"expected at most {_PIXEL_BYTES * max_pixels()} bytes, found {size}; scale the image down")


def _decode(data: bytes) -> npt.NDArray[Any]:
    """The pixels uint8, uint16 or what else the file has, `(H, W)` or `(H, W, C)`, upright."""
    check_whole(data)
    header = read_header(data)
    width, height = header.size_wh
    if width * height > max_pixels():
        raise DataError(
            f"expected at most {max_pixels() / 1e6:g} megapixels, found {width}x{height}, {width * height / 1e6:g}; "
            f"scale the image down, or set {MAX_MEGAPIXELS_VARIABLE}"
        )
    try:
        check_data(data, header)
        image = _decode_jpeg(data) if header.kind == "JPEG" else _decode_other(data, header)
    except MemoryError:
        raise DataError(f"{width}x{height} pixels don't fit into memory; scale the image down") from None
    if image.shape[:2] != (height, width):
        raise DataError(
            f"the {header.kind} declares {width}x{height} pixels and has {image.shape[1]}x{image.shape[0]}; copy or "
            "send it again"
        )
    return _upright(image, header.orientation)


def _decode_jpeg(data: bytes) -> Frames:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "BGR", strict=True), np.uint8)
    except ValueError as error:  # with what libjpeg-turbo calls warnings
        raise DataError(f"the JPEG is damaged or of a rare kind ({error}); copy or send it again") from None


def _decode_other(data: bytes, header: Header) -> npt.NDArray[Any]:
    if header.kind == "PNG":
        data = _pixel_chunks(data)
    elif header.kind == "TIFF":
        data = _not_turned(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"OpenCV refuses to decode it ({error.err}); remove it or scale it down") from error
    if image is None:
        raise DataError(f"is a {header.kind} that OpenCV can't decode ({len(data)} bytes); copy or send it again")
    return np.asarray(image)


def _pixel_chunks(png: bytes) -> bytes:
    """The PNG without what its pixels don't come from: some versions of OpenCV turn it, libpng prints lines."""
    chunks = list(png_chunks(png))
    if all(name in _PIXEL_CHUNKS for name, _, _ in chunks):
        return png
    kept = [png[start - 8 : end + 4] for name, start, end in chunks if name in _PIXEL_CHUNKS]
    return png[:8] + b"".join(kept)


def _not_turned(tiff: bytes) -> bytes:
    """The TIFF as if it were upright: some versions of OpenCV turn it, others don't, whatever the flags."""
    tags = Tiff(tiff)
    if tags.value(0, ORIENTATION, 1) == 1:
        return tiff
    offset, width, _ = tags.pages[0][ORIENTATION]
    one = struct.pack(tags.order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], 1)
    return tiff[:offset] + one + tiff[offset + width :]


def _upright(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The image as EXIF's orientation 1 to 8 says it is to be seen."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
