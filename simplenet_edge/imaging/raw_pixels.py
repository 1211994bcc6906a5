"""Pixels as GenICam cameras send them, to uint8 `(H, W, 3)` BGR.

Formats have the names and numbers of PFNC, the Pixel Format Naming Convention of GenICam.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import DataError
from simplenet_edge.spec import Frames

__all__ = ["bits_of", "format_name", "raw_to_bgr"]

_NUMBERS = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono12": 0x01100005,
    "Mono14": 0x01100025,
    "Mono16": 0x01100007,
    "Mono10p": 0x010A0046,
    "Mono12p": 0x010C0047,
    "Mono10Packed": 0x010C0004,
    "Mono12Packed": 0x010C0006,
    "BayerGR8": 0x01080008,
    "BayerRG8": 0x01080009,
    "BayerGB8": 0x0108000A,
    "BayerBG8": 0x0108000B,
    "BayerGR10": 0x0110000C,
    "BayerRG10": 0x0110000D,
    "BayerGB10": 0x0110000E,
    "BayerBG10": 0x0110000F,
    "BayerGR12": 0x01100010,
    "BayerRG12": 0x01100011,
    "BayerGB12": 0x01100012,
    "BayerBG12": 0x01100013,
    "BayerGR16": 0x0110002E,
    "BayerRG16": 0x0110002F,
    "BayerGB16": 0x01100030,
    "BayerBG16": 0x01100031,
    "BayerBG10p": 0x010A0052,
    "BayerGB10p": 0x010A0054,
    "BayerGR10p": 0x010A0056,
    "BayerRG10p": 0x010A0058,
    "BayerBG12p": 0x010C0053,
    "BayerGB12p": 0x010C0055,
    "BayerGR12p": 0x010C0057,
    "BayerRG12p": 0x010C0059,
    "BayerGR10Packed": 0x010C0026,
    "BayerRG10Packed": 0x010C0027,
    "BayerGB10Packed": 0x010C0028,
    "BayerBG10Packed": 0x010C0029,
    "BayerGR12Packed": 0x010C002A,
    "BayerRG12Packed": 0x010C002B,
    "BayerGB12Packed": 0x010C002C,
    "BayerBG12Packed": 0x010C002D,
    "RGB8": 0x02180014,
    "BGR8": 0x02180015,
}
_NAMES = {number: name for name, number in _NUMBERS.items()}

_TO_BGR = {
    "Mono": cv2.COLOR_GRAY2BGR,
    # PFNC names the first two pixels of the first row, OpenCV the second and third of the second row.
    "BayerRG": cv2.COLOR_BayerBG2BGR,
    "BayerGR": cv2.COLOR_BayerGB2BGR,
    "BayerGB": cv2.COLOR_BayerGR2BGR,
    "BayerBG": cv2.COLOR_BayerRG2BGR,
    "RGB": cv2.COLOR_RGB2BGR,
}


def format_name(number: int) -> str:
    """The name of a pixel format that `raw_to_bgr` reads. Raises DataError for others."""
    if number not in _NAMES:
        raise DataError(
            f"pixel format {number:#010x} can't be read; choose one of Mono8 to Mono16, BayerRG8 to BayerRG16 (also "
            "GR, GB, BG, and packed), RGB8 or BGR8"
        )
    return _NAMES[number]


def bits_of(name: str) -> int:
    """Bits of a value in a format."""
    return _parts(name)[1]


def _parts(name: str) -> tuple[str, int, str]:
    kind, bits, packing = re.fullmatch(r"([A-Za-z]+?)(\d+)(p|Packed|)", name).groups()  # type: ignore[union-attr]
    return kind, int(bits), packing


def raw_to_bgr(data: Frames, name: str, size_wh: tuple[int, int], levels: tuple[int, int] | None = None) -> Frames:
    """The image in flat uint8 `data`, a copy; black and white `levels` become 0 and 255, and values between linearly.

    Without them 0 and the greatest value of the format do. Raises DataError where data is missing, or where values
    have more bits than the format.
    """
    kind, bits, packing = _parts(name)
    width, height = size_wh
    count = width * height * (3 if kind in ("RGB", "BGR") else 1)
    values: npt.NDArray[Any] = _unpacked(data, bits, packing, count)
    if levels is not None or bits > 8:
        table = _table(bits, *(levels or (0, 2**bits - 1)))
        if values.size and int(values.max()) >= len(table):
            raise DataError(f"a value of {values.max()} in the format {name}, which has {bits} bits; check the camera")
        values = table[values]
    image: Frames = values.reshape(height, width, -1)
    return image.copy() if kind == "BGR" else np.asarray(cv2.cvtColor(image, _TO_BGR[kind]), np.uint8)


@lru_cache(maxsize=8)
def _table(bits: int, black: int, white: int) -> Frames:
    span = white - black
    rounded = (2 * 255 * (np.arange(2**bits) - black) + span) // (2 * span)
    table: Frames = np.clip(rounded, 0, 255).astype(np.uint8)
    return table


def _unpacked(data: Frames, bits: int, packing: str, count: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    stored = {"": 8 if bits == 8 else 16, "p": bits, "Packed": 12}[packing]
    needed = -(-count * stored // 8)
    if data.size < needed:
        raise DataError(f"the frame has {data.size} bytes where {needed} were expected; check the camera")
    data = data[:needed]
    if not packing:
        return data if bits == 8 else data.view("<u2")
    group = 5 if stored == 10 else 3  # bytes, of 4 values or of 2
    whole = np.zeros((-(-needed // group), group), np.uint16)
    whole.reshape(-1)[:needed] = data
    a, b, c = whole[:, 0], whole[:, 1], whole[:, 2]
    if packing == "Packed":  # two values: upper 8 bits of one, lower bits of both, upper 8 bits of the other
        low = bits - 8
        mask = (1 << low) - 1
        values = [a << low | b & mask, c << low | b >> 4 & mask]
    elif bits == 12:
        values = [a | (b & 0xF) << 8, b >> 4 | c << 4]
    else:
        d, e = whole[:, 3], whole[:, 4]
        values = [a | (b & 3) << 8, b >> 2 | (c & 0xF) << 6, c >> 4 | (d & 0x3F) << 4, d >> 6 | e << 2]
    return np.stack(values, 1).reshape(-1)[:count]
