"""Camera frame in, model frame out: the only definition, used by training, evaluation and the runtime alike.

In: an image uint8 `(H0, W0, 3)` BGR of any size. Out: uint8 `(H, W, 3)` BGR of the model's size.
Normalisation is not done here: it is inside the graph.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.spec import Frames, InputSpec

__all__ = [
    "image_transform",
    "preprocess",
    "preprocess_mask",
    "resize_matrices",
]

_MAX_ASPECT = 100  # with center-crop, whose scaled image grows with the aspect without bound


def preprocess(image: Frames, spec: InputSpec) -> Frames:
    """A BGR image uint8 `(H0, W0, 3)` as a model frame uint8 `(H, W, 3)`.

    Shrinking averages areas, growing interpolates linearly. Raises DataError for a strip that center-crop can't cut.
    """
    height, width = _resized_hw(image.shape[:2], spec)
    if (height, width) != image.shape[:2]:
        interpolation = _interpolation(image.shape[:2], spec)
        if image.shape[:2] == (1, 1):  # one pixel of three channels, which OpenCV 4.5.4 refuses
            image = np.repeat(image, 2, axis=0)
        image = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    return _cut(image, spec)


def preprocess_mask(mask: npt.NDArray[np.bool_], spec: InputSpec) -> npt.NDArray[np.bool_]:
    """A mask bool `(H0, W0)` through the same geometry as `preprocess`: bool `(H, W)`.

    Each pixel takes the value under its centre. Not by OpenCV: INTER_NEAREST takes the corner's, half a pixel off, and
    what INTER_NEAREST_EXACT takes depends on the version.
    """
    resized_hw = _resized_hw(mask.shape[:2], spec)
    rows, columns = (
        (2 * np.arange(resized) + 1) * size // (2 * resized)
        for size, resized in zip(mask.shape, resized_hw, strict=True)
    )
    return _cut(mask[rows[:, None], columns].astype(np.uint8), spec).astype(np.bool_)


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


def _cut(image: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """The middle of a scaled image, or a letterboxed one with its bars."""
    if spec.resize == "letterbox":
        return _pad(image, spec)
    top, left = (image.shape[0] - spec.height) // 2, (image.shape[1] - spec.width) // 2
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
