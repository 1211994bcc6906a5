"""Bytes become images: files, posts and streams alike. Images are uint8 `(H, W, 3)` BGR, masks bool `(H, W)`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.encoded import is_cut_off
from simplenet_edge.spec import Frames

__all__ = ["IMAGE_SUFFIXES", "decode_image", "read_image", "read_mask", "to_bgr"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""File endings, in lower case, that count as images."""

# What can't be decoded becomes a DataError; OpenCV's own lines on stderr would only repeat it.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def to_bgr(image: npt.NDArray[Any]) -> Frames:
    """Any decoded image as uint8 `(H, W, 3)` BGR.

    Grey becomes three equal channels, 16 bits become their upper 8 (a 10- or 12-bit camera must scale to the full
    range itself), a fully opaque alpha channel is dropped. Raises DataError for anything else.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
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


def decode_image(data: bytes) -> Frames:
    """An encoded image as uint8 `(H, W, 3)` BGR. Raises DataError for one that is damaged, cut off or transparent."""
    return to_bgr(_decode(data))


def read_image(path: Path) -> Frames:
    """The image file as uint8 `(H, W, 3)` BGR. Raises DataError with the file's name if it can't be used."""
    try:
        return decode_image(_read(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A ground-truth mask file as bool `(H, W)`: True where any channel is not zero. Raises DataError."""
    try:
        mask = _decode(_read(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(axis=2)
    return np.asarray(mask > 0)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror}); check the path and its permissions") from error


def _decode(data: bytes) -> npt.NDArray[Any]:
    if is_cut_off(data):
        raise DataError(f"the image is cut off before its end, after {len(data)} bytes; copy or send it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:  # more pixels than OpenCV allows
        raise DataError(f"OpenCV refuses to decode it ({error.err}); remove it or scale it down") from error
    if image is None:
        raise DataError(f"is no image that OpenCV can decode ({len(data)} bytes); remove it, or copy or send it again")
    return image
