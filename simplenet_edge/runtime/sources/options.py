"""The options at the end of a source's address: `#name=left&xywh=160,120,320,240&every=2` (W3C Media Fragments)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from simplenet_edge.errors import ConfigError, SourceError
from simplenet_edge.runtime.sources.base import View

__all__ = [
    "CAMERA_OPTIONS",
    "COMMON_OPTIONS",
    "GENICAM_OPTIONS",
    "LIVE_OPTIONS",
    "Options",
    "parse_options",
    "read_query",
    "split_options",
]

COMMON_OPTIONS = frozenset({"name", "xywh", "every", "part"})
"""What every source takes."""

LIVE_OPTIONS = COMMON_OPTIONS | {"trigger", "timeout", "silence", "frozen", "black"}
"""What every live camera takes."""

CAMERA_OPTIONS = LIVE_OPTIONS | {"size", "fps"}
"""What a camera takes whose mode can be chosen."""

GENICAM_OPTIONS = LIVE_OPTIONS | {"fps", "exposure", "gain", "format", "levels", "roi", "packet", "camera_trigger"}
"""What a GenICam camera takes."""


@dataclass(frozen=True)
class Options:
    """The options of one address. A field is named as the option is; times are in seconds, `inf` where it is off."""

    name: str | None = None
    xywh: tuple[int, int, int, int] | None = None
    every: int = 1
    part: Literal["name", "code"] | None = None  # where the id of a part comes from
    size: tuple[int, int] | None = None  # width and height in pixels
    fps: float | None = None
    fourcc: str | None = None  # the pixel format that a V4L2 camera is asked for, e.g. MJPG
    exposure: float | Literal["auto"] | None = None  # microseconds
    gain: float | Literal["auto"] | None = None
    format: str | None = None  # the pixel format that a GenICam camera is asked for, e.g. Mono12
    levels: tuple[int, int] | None = None  # the values that become 0 and 255
    roi: tuple[int, int, int, int] | None = None  # what of its sensor a camera sends: x, y, width, height
    packet: int | None = None  # bytes of a packet of GigE Vision
    camera_trigger: str = "off"  # what starts an exposure: software, or an input of the camera, e.g. Line1
    trigger: str | None = None  # who asks for a frame
    timeout: float | None = None  # how long a trigger waits for its frame, and a pushed image for its verdict
    silence: float = 5.0  # a live camera without a frame for this long is away
    frozen: float = 3.0  # a live camera that repeats one frame for this long hangs
    black: bool = True  # whether frames without light are INVALID

    @property
    def view(self) -> View:
        """The part of the source that is inspected."""
        return View(self.xywh, self.every)


def split_options(uri: str) -> tuple[str, str]:
    """An address and what follows its last `#`, which is empty where that is no option but part of an existing path."""
    address, separator, fragment = uri.rpartition("#")
    if not separator or "=" not in fragment or os.path.exists(uri.removeprefix("watch:")):
        return uri, ""
    if "@" in fragment and "://" in address and "/" not in address.partition("://")[2]:
        raise SourceError("in the user and the password of an address, '#' is written %23 and '@' %40")
    return address, fragment


def parse_options(fragment: str, known: Collection[str]) -> Options:
    """The options in `name=value&name=value`. Raises SourceError for others than `known`, and for bad values."""
    values: dict[str, Any] = {}
    for text in fragment.split("&") if fragment else ():
        key, _, value = text.partition("=")
        if key not in known:
            raise SourceError(f"#{fragment}: no option {key!r} here; this source takes {', '.join(sorted(known))}")
        if key in values:
            raise SourceError(f"#{fragment}: {key} is given twice; say it once")
        parse, expected = _VALUES[key]
        try:
            values[key] = parse(unquote(value))
        except ValueError:
            raise SourceError(f"#{fragment}: expected {key}={expected}, found {value!r}") from None
    options = Options(**values)
    try:
        View(options.xywh, options.every)
    except ConfigError as error:
        raise SourceError(f"#{fragment}: {error}") from None
    return options


def read_query(address: str, query: str, known: Collection[str]) -> dict[str, str]:
    """What follows the `?` of an address as a dict. Raises SourceError for others than `known`."""
    values: dict[str, str] = {}
    for text in query.split("&") if query else ():
        key, separator, value = text.partition("=")
        if key not in known or not separator or key in values:
            raise SourceError(f"{address}: {text!r} is none of {', '.join(f'{name}=…' for name in sorted(known))}")
        values[key] = value
    return values


def _text(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError
    return value


def _whole(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError
    return int(value)


def _rectangle(value: str) -> tuple[int, int, int, int]:
    x, y, width, height = (_whole(part) for part in value.split(","))
    return x, y, width, height


def _size(value: str) -> tuple[int, int]:
    width, height = (_whole(part) for part in value.split("x"))
    if min(width, height) < 1:
        raise ValueError
    return width, height


def _positive(value: str) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def _positive_or_auto(value: str) -> float | Literal["auto"]:
    return "auto" if value == "auto" else _positive(value)


def _number_or_auto(value: str) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]+", value):
        raise ValueError
    return value


def _levels(value: str) -> tuple[int, int]:
    black, white = (_whole(part) for part in value.split(","))
    if black >= white:
        raise ValueError
    return black, white


def _roi(value: str) -> tuple[int, int, int, int]:
    rectangle = _rectangle(value)
    if min(rectangle[2:]) < 1:
        raise ValueError
    return rectangle


def _seconds_or_off(value: str) -> float:
    return math.inf if value == "off" else _positive(value)


def _on_or_off(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError
    return value == "on"


def _name_or_code(value: str) -> str:
    if value not in ("name", "code"):
        raise ValueError
    return value


def _fourcc(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9 ]{4}", value):
        raise ValueError
    return value


_VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "name": (_text, "left"),
    "xywh": (_rectangle, "160,120,320,240 in pixels"),
    "every": (_whole, "2, a whole number"),
    "part": (_name_or_code, "name or code"),
    "size": (_size, "1920x1080"),
    "fps": (_positive, "30, frames per second"),
    "fourcc": (_fourcc, "MJPG"),
    "exposure": (_positive_or_auto, "5000, microseconds, or auto"),
    "gain": (_number_or_auto, "6, or auto"),
    "format": (_word, "Mono8"),
    "levels": (_levels, "64,1023, the values of black and of white"),
    "roi": (_roi, "640,400,1280,1024 in pixels"),
    "packet": (_whole, "8000, bytes"),
    "camera_trigger": (_word, "software, an input of the camera such as Line1, or off"),
    "trigger": (_text, "stdin, http:8090, s7:192.168.0.1/DB10 or opcua:4840"),
    "timeout": (_positive, "2, seconds"),
    "silence": (_seconds_or_off, "5, seconds, or off"),
    "frozen": (_seconds_or_off, "3, seconds, or off"),
    "black": (_on_or_off, "on or off"),
}
