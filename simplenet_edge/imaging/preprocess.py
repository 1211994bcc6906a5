"""Camera frame in, model frame out: the only definition, used by training, evaluation and the runtime alike.

In: any decoded image, uint8 or uint16, grey, BGR or BGRA, any size. Out: uint8 `(H, W, 3)` BGR of the model's size.
Normalisation is not done here: it is inside the graph.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.spec import Frames, InputSpec

__all__ = [
    "IMAGE_SUFFIXES",
    "image_transform",
    "preprocess",
    "preprocess_mask",
    "read_image",
    "read_mask",
    "resize_matrices",
    "to_bgr",
]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""File endings, in lower case, that count as images."""

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_MAX_ASPECT = 100  # with center-crop, whose scaled image grows with the aspect without bound

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


def read_image(path: Path) -> Frames:
    """The image file as uint8 `(H, W, 3)` BGR. Raises DataError with the file's name if it can't be used."""
    try:
        return to_bgr(_decode(path, cv2.IMREAD_UNCHANGED))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A ground-truth mask file as bool `(H, W)`: True where any channel is not zero. Raises DataError."""
    try:
        mask = _decode(path, cv2.IMREAD_UNCHANGED)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if mask.ndim == 3:
        mask = mask[:, :, :3].max(axis=2)
    return np.asarray(mask > 0)


def preprocess(image: Frames, spec: InputSpec) -> Frames:
    """A BGR image uint8 `(H0, W0, 3)` as a model frame uint8 `(H, W, 3)`.

    Shrinking averages areas, growing interpolates linearly. Raises DataError for a strip that center-crop can't cut.
    """
    return _resize_and_cut(image, spec, _interpolation(image.shape[:2], spec))


def preprocess_mask(mask: npt.NDArray[np.bool_], spec: InputSpec) -> npt.NDArray[np.bool_]:
    """A mask bool `(H0, W0)` through the same geometry as `preprocess`: bool `(H, W)`.

    Each pixel takes the value under its centre. (OpenCV's INTER_NEAREST takes the corner's: half a pixel off.)
    """
    return _resize_and_cut(mask.astype(np.uint8), spec, cv2.INTER_NEAREST_EXACT).astype(np.bool_)


def _decode(path: Path, flags: int) -> npt.NDArray[Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror}); check the path and its permissions") from error
    if _is_cut_off(data):
        raise DataError("the image is cut off before its end; copy the file again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:  # more pixels than OpenCV allows
        raise DataError(f"OpenCV refuses to decode it ({error.err}); remove it or scale it down") from error
    if image is None:
        raise DataError(f"is not an image that OpenCV can decode ({len(data)} bytes); remove it or copy it again")
    return image


def resize_matrices(
    image_hw: tuple[int, int], spec: InputSpec
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What `preprocess` does to images of one size, as matrices: rows `(H, H0)` and columns `(W, W0)`, float32.

    `rows @ channel @ columns.T`, rounded, is the model frame; OpenCV's own integer arithmetic may come out one grey
    level away: in less than one pixel of a hundred where the image shrinks, in about one of eight where it grows.
    """
    resized_hw = _resized_hw(image_hw, spec)
    interpolation = _interpolation(image_hw, spec)
    rows, columns = (
        _axis_matrix(size, resized, target, interpolation)
        for size, resized, target in zip(image_hw, resized_hw, spec.size_hw, strict=True)
    )
    return rows, columns


def image_transform(image_hw: tuple[int, int], spec: InputSpec) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a model frame's pixels lie in the image that it was made from: `(scale, shift)` along x and along y.

    The model pixel `i` covers `scale * i + shift` to `scale * (i + 1) + shift` in image pixels. Outside the image is
    what letterbox repeats around it.
    """
    x, y = (
        (size / resized, _first_kept(resized, target) * size / resized)
        for size, resized, target in zip(
            image_hw[::-1], _resized_hw(image_hw, spec)[::-1], (spec.width, spec.height), strict=True
        )
    )
    return x, y


def _first_kept(resized: int, target: int) -> int:
    """The first of the `target` pixels in the middle of `resized`; negative where a bar comes before the image."""
    return (resized - target) // 2 if resized >= target else -((target - resized) // 2)


def _axis_matrix(size: int, resized: int, target: int, interpolation: int) -> npt.NDArray[np.float32]:
    scaled = np.asarray(cv2.resize(np.eye(size, dtype=np.float32), (size, resized), interpolation=interpolation))
    kept = np.clip(np.arange(target) + _first_kept(resized, target), 0, resized - 1)  # a cut, or the repeated edge
    return np.ascontiguousarray(scaled[kept])


def _is_cut_off(data: bytes) -> bool:
    """Whether a PNG or JPEG ends before its end marker: OpenCV 4 decodes some of those, the missing part grey.

    What follows the end marker doesn't matter (some cameras append data), nor does a thumbnail's end marker.
    """
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    if not data.startswith(_JPEG_START):
        return False
    position = len(_JPEG_START)
    while position < len(data) and data[position : position + 2] != _JPEG_SCAN:
        if data[position] != 0xFF:
            return False  # not cut off but damaged: for the decoder to judge
        is_fill_byte = data[position + 1 : position + 2] == b"\xff"
        position += 1 if is_fill_byte else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(_JPEG_END, position) < 0


def _interpolation(image_hw: tuple[int, ...], spec: InputSpec) -> int:
    height, width = _resized_hw(image_hw, spec)
    return cv2.INTER_AREA if height <= image_hw[0] and width <= image_hw[1] else cv2.INTER_LINEAR


def _resized_hw(image_hw: tuple[int, ...], spec: InputSpec) -> tuple[int, int]:
    """The size of the scaled image, before anything is cut off or added."""
    if spec.resize == "letterbox":
        scale = min(spec.height / image_hw[0], spec.width / image_hw[1])
        return max(round(image_hw[0] * scale), 1), max(round(image_hw[1] * scale), 1)
    if spec.resize_to is None:
        return spec.size_hw
    if max(image_hw) > _MAX_ASPECT * min(image_hw):
        raise DataError(
            f"expected sides of at most {_MAX_ASPECT}:1 for center-crop, found an image of {image_hw[1]}x{image_hw[0]} "
            "pixels; cut it to the part, or use resize='stretch'"
        )
    scale = spec.resize_to / min(image_hw)
    return max(round(image_hw[0] * scale), spec.resize_to), max(round(image_hw[1] * scale), spec.resize_to)


def _resize_and_cut(image: npt.NDArray[np.uint8], spec: InputSpec, interpolation: int) -> npt.NDArray[np.uint8]:
    height, width = _resized_hw(image.shape[:2], spec)
    if (height, width) != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    if spec.resize == "letterbox":
        return _pad(image, spec)
    top, left = (height - spec.height) // 2, (width - spec.width) // 2
    return np.ascontiguousarray(image[top : top + spec.height, left : left + spec.width])


def _pad(image: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The image in the middle of a model frame, its edge pixels repeated around it.

    A bar of one colour would put an edge into every frame that is no edge of the part, at another place for each
    aspect. Masks repeat their edge too: where the frame shows a defect's pixels again, they are a defect's pixels.
    """
    down, right = spec.height - image.shape[0], spec.width - image.shape[1]
    padded = cv2.copyMakeBorder(
        image, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_REPLICATE
    )
    return np.asarray(padded, np.uint8)
