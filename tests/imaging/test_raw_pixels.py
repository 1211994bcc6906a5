from __future__ import annotations

import numpy as np
import pytest

from simplenet_edge.errors import DataError
from simplenet_edge.imaging.raw_pixels import bits_of, format_name, raw_to_bgr
from simplenet_edge.spec import Frames


def grey(data: list[int] | bytes, name: str, size_wh: tuple[int, int], levels: tuple[int, int] | None = None) -> object:
    image = raw_to_bgr(np.array(list(data), np.uint8), name, size_wh, levels)
    assert image.shape == (size_wh[1], size_wh[0], 3)
    assert (image == image[:, :, :1]).all()
    return image[:, :, 0].tolist()


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (bytes([0, 7, 200, 255]), "Mono8", [0, 7, 200, 255]),
        (np.array([0, 512, 1023, 4], "<u2").tobytes(), "Mono10", [0, 128, 255, 1]),
        (np.array([0, 2048, 4095, 16], "<u2").tobytes(), "Mono12", [0, 128, 255, 1]),
        (np.array([0, 16383], "<u2").tobytes(), "Mono14", [0, 255]),
        (np.array([0, 32768, 65535], "<u2").tobytes(), "Mono16", [0, 128, 255]),
        # 1, 1022, 3, 1020 as 10 bits each, the lowest bit first
        ((1 | 1022 << 10 | 3 << 20 | 1020 << 30).to_bytes(5, "little"), "Mono10p", [0, 255, 1, 254]),
        ((160 | 4000 << 12).to_bytes(3, "little"), "Mono12p", [10, 249]),
        # GigE Vision: the upper 8 bits, the lower bits of both, the upper 8 bits
        (bytes([1018 >> 2, 2 | 3 << 4, 47 >> 2]), "Mono10Packed", [254, 12]),
        (bytes([4000 >> 4, (4000 & 15) | (162 & 15) << 4, 162 >> 4]), "Mono12Packed", [249, 10]),
        # an odd number of values: the last bytes are not all there
        ((160 | 4000 << 12 | 80 << 24).to_bytes(5, "little"), "Mono12p", [10, 249, 5]),
        (bytes([250, 0, 10, 5, 0]), "Mono12Packed", [249, 10, 5]),
        ((1023 | 1023 << 10).to_bytes(3, "little"), "Mono10p", [255, 255]),
        (bytes([9, 0, 0, 0, 99, 99]), "Mono8", [9, 0, 0, 0]),  # what follows the image is not the image's
    ],
)
def test_grey(data: bytes, name: str, expected: list[int]) -> None:
    assert grey(data, name, (len(expected), 1)) == [expected]


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("Mono10", (100, 300), [0, 0, 128, 255, 255]),
        ("Mono12", (0, 1000), [0, 26, 51, 77, 255]),
        ("Mono8", (0, 51), [0, 255, 255, 255, 255]),
    ],
)
def test_levels(name: str, levels: tuple[int, int], expected: list[int]) -> None:
    values = np.array([0, 100, 200, 300, 1023], "<u2")
    data = values.tobytes() if name != "Mono8" else np.minimum(values, 255).astype(np.uint8).tobytes()
    assert grey(data, name, (5, 1), levels) == [expected]


def mosaic(pattern: str, bgr: tuple[int, int, int]) -> Frames:
    """An even colour as a sensor of 8x8 pixels sees it, whose first two rows begin with these colours."""
    value = dict(zip("BGR", bgr, strict=True))
    raw = np.empty((8, 8), np.uint8)
    for i, colour in enumerate(pattern):
        raw[i // 2 :: 2, i % 2 :: 2] = value[colour]
    return raw


@pytest.mark.parametrize(("name", "pattern"), [("RG", "RGGB"), ("GR", "GRBG"), ("GB", "GBRG"), ("BG", "BGGR")])
def test_bayer_patterns(name: str, pattern: str) -> None:
    bgr = (40, 120, 240)
    raw = mosaic(pattern, bgr)
    image = raw_to_bgr(raw.reshape(-1), f"Bayer{name}8", (8, 8))
    assert (image == bgr).all()
    twelve = (raw.astype("<u2") * 16).view(np.uint8).reshape(-1)
    assert (raw_to_bgr(twelve, f"Bayer{name}12", (8, 8), (0, 255 * 16)) == bgr).all()


def test_colour_channels() -> None:
    data = np.array([1, 2, 3, 4, 5, 6], np.uint8)
    assert raw_to_bgr(data, "RGB8", (2, 1)).tolist() == [[[3, 2, 1], [6, 5, 4]]]
    bgr = raw_to_bgr(data, "BGR8", (2, 1))
    assert bgr.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    data[:] = 0
    assert bgr.max() == 6  # a copy


def test_numbers_of_pfnc() -> None:
    assert (format_name(0x01080009), bits_of("BayerRG8")) == ("BayerRG8", 8)
    assert (format_name(0x010C0047), bits_of("Mono12p")) == ("Mono12p", 12)
    with pytest.raises(DataError, match="pixel format 0x0210001f can't be read; choose one of Mono8"):
        format_name(0x0210001F)


def test_what_is_not_there_is_not_made_up() -> None:
    with pytest.raises(DataError, match="has 3 bytes where 4 were expected"):
        raw_to_bgr(np.zeros(3, np.uint8), "Mono8", (2, 2))
    with pytest.raises(DataError, match="a value of 1024 in the format Mono10, which has 10 bits"):
        raw_to_bgr(np.array([1024], "<u2").view(np.uint8), "Mono10", (1, 1))
