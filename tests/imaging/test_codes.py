from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.imaging.codes import read_code
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.spec import Frames

_LEFT = ["0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011"]
_PARITY = ["LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL"]


def with_code(code: Frames) -> Frames:
    """A grey part with the code on a white label, slightly out of focus as in any camera."""
    image = np.full((480, 640, 3), 150, np.uint8)
    height, width = code.shape
    image[80 : 120 + height, 80 : 120 + width] = 255
    image[100 : 100 + height, 100 : 100 + width] = code[..., None]
    return np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)


def qr_code(text: str) -> Frames:
    if not hasattr(cv2, "QRCodeEncoder"):
        pytest.skip("this OpenCV draws no QR codes")
    code = cv2.QRCodeEncoder.create().encode(text)
    return np.asarray(np.repeat(np.repeat(code, 4, 0), 4, 1), np.uint8)


def ean13(digits: str) -> Frames:
    """The bars of 13 digits, 3 pixels each (ISO/IEC 15420)."""
    right = ["".join("10"[int(bit)] for bit in code) for code in _LEFT]
    codes = {"L": _LEFT, "G": [code[::-1] for code in right]}
    left = "".join(codes[kind][int(n)] for n, kind in zip(digits[1:7], _PARITY[int(digits[0])], strict=True))
    bits = f"101{left}01010{''.join(right[int(n)] for n in digits[7:])}101"
    row = np.repeat([0 if bit == "1" else 255 for bit in bits], 3).astype(np.uint8)
    return np.tile(row, (100, 1))


def test_a_qr_code_and_a_barcode_are_read() -> None:
    assert read_code(with_code(qr_code("SN-004711"))) == "SN-004711"
    if hasattr(cv2, "barcode"):
        assert read_code(with_code(ean13("4006381333931"))) == "4006381333931"
    assert read_code(np.full((48, 64, 3), 150, np.uint8)) is None


def test_a_part_is_called_by_its_code_or_by_its_file(tmp_path: Path) -> None:
    """The code may lie outside of what is inspected; a part without one is no part that could be told from others."""
    cv2.imwrite(str(tmp_path / "left 1.png"), with_code(qr_code("SN-004711")))
    cv2.imwrite(str(tmp_path / "left 2.png"), np.full((480, 640, 3), 150, np.uint8))
    with open_source(f"{tmp_path}#part=code&xywh=400,400,64,64") as source:
        first, second = source.frames()
    assert (first.part.id, first.error) == ("SN-004711", None)
    assert first.image is not None
    assert first.image.shape == (64, 64, 3)
    assert (second.part.id, second.error) == (
        None, "no QR code or barcode can be read in the image, which is to name the part",
    )  # fmt: skip
    with open_source(f"{tmp_path}#part=name") as source:
        assert [record.part.id for record in source.frames()] == ["left 1", "left 2"]
