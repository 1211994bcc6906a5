"""The one module that decides which TensorRT is imported, and what its version may be.

TensorRT (`tensorrt`, on Jetson part of JetPack) and TensorRT for RTX (`tensorrt_rtx`, from the package index) have the
same Python API and their own version numbers. Values of flags differ between versions, so they are looked up by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from simplenet_edge.errors import EngineUnavailable

__all__ = ["Flavour", "TensorRTLibrary", "is_installed", "load_library"]

Flavour = Literal["tensorrt", "tensorrt_rtx"]

_OLDEST: dict[Flavour, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 1)}
_INSTALL: dict[Flavour, str] = {
    "tensorrt": (
        "on a Jetson: sudo apt install python3-libnvinfer, in a venv made with --system-site-packages; "
        "on a PC: pip install 'simplenet-edge[tensorrt]'"
    ),
    "tensorrt_rtx": "run: pip install 'simplenet-edge[rtx]'",
}
_UPGRADE: dict[Flavour, str] = {
    "tensorrt": "on a Jetson upgrade to JetPack 6.2 or later; on a PC: pip install --upgrade tensorrt",
    "tensorrt_rtx": "run: pip install --upgrade tensorrt-rtx",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorRTLibrary:
    """An imported TensorRT of a supported version."""

    flavour: Flavour
    module: Any
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT for RTX: compiles for named architectures, has no timing cache."""
        return self.flavour == "tensorrt_rtx"

    def bit(self, enumeration: str, flag: str) -> int:
        """The bit of a flag, 0 where this version doesn't have it: what it asks for can't be turned off then."""
        member = getattr(getattr(self.module, enumeration), flag, None)
        return 0 if member is None else 1 << int(member)

    def new_log(self) -> Any:
        """A logger for TensorRT's objects that keeps the text of errors in `.errors`, a list."""
        severities = self.module.ILogger

        class Log(self.module.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, text: str) -> None:
                if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                    self.errors.append(" ".join(text.split()))
                elif severity == severities.WARNING:
                    _log.info("%s", text)
                else:
                    _log.debug("%s", text)

        return Log()


def is_installed(flavour: Flavour) -> bool:
    """Whether the library can be found; it is not imported."""
    return importlib.util.find_spec(flavour) is not None


def load_library(flavour: Flavour) -> TensorRTLibrary:
    """Import a TensorRT. Raises EngineUnavailable where it is absent, does not load or is too old."""
    if flavour not in get_args(Flavour):
        raise ValueError(f"no TensorRT is called {flavour!r}")
    try:
        module = importlib.import_module(flavour)
        version = str(module.__version__)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # its packages check things when imported
        raise EngineUnavailable(
            f"the {flavour} engine needs {flavour} ({type(error).__name__}: {error}); {_INSTALL[flavour]}"
        ) from error
    oldest = _OLDEST[flavour]
    if _numbers(version) < oldest:
        raise EngineUnavailable(
            f"expected {flavour} {oldest[0]}.{oldest[1]} or later, found {version}; {_UPGRADE[flavour]}"
        )
    return TensorRTLibrary(flavour, module, version)


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
