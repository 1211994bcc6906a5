"""Which TensorRT is imported, and which are refused."""

from __future__ import annotations

import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import pytest

from simplenet_edge.engines.tensorrt.library import Flavour, TensorRTLibrary, is_installed, load_library
from simplenet_edge.errors import EngineUnavailable


def install(monkeypatch: pytest.MonkeyPatch, flavour: Flavour, version: str | None) -> None:
    module = None if version is None else ModuleType(flavour)
    if module is not None:
        module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, flavour, module)


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.3", "11.4.0"])
def test_takes_supported_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install(monkeypatch, "tensorrt", version)
    library = load_library("tensorrt")
    assert (library.version, library.is_rtx) == (version, False)


@pytest.mark.parametrize("version", ["8.5.2", "8.6.1", "9.3", "10.2.0", "unknown"])
def test_refuses_old_versions_with_the_remedy(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    install(monkeypatch, "tensorrt", version)
    with pytest.raises(EngineUnavailable, match=rf"expected tensorrt 10.3 or later, found {version}; .*JetPack 6.2"):
        load_library("tensorrt")


def test_rtx_has_its_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt_rtx", "1.1.0")
    assert load_library("tensorrt_rtx").is_rtx
    install(monkeypatch, "tensorrt_rtx", "1.0.0")
    with pytest.raises(EngineUnavailable, match=r"expected tensorrt_rtx 1.1 or later, found 1.0.0"):
        load_library("tensorrt_rtx")


def test_absence_names_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "tensorrt", None)
    assert not is_installed("tensorrt")
    with pytest.raises(
        EngineUnavailable, match=r"apt install python3-libnvinfer.*--system-site-packages.*\[tensorrt\]"
    ):
        load_library("tensorrt")
    install(monkeypatch, "tensorrt_rtx", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'simplenet-edge\[rtx\]'"):
        load_library("tensorrt_rtx")


class Flags10(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Flags11(IntEnum):
    STRONGLY_TYPED = 0


@pytest.mark.parametrize(("flags", "bit"), [(Flags10, 0b10), (Flags11, 0b1), (IntEnum("Flags12", "OTHER"), 0)])
def test_flags_are_looked_up_by_name(flags: type[IntEnum], bit: int) -> None:
    library = TensorRTLibrary("tensorrt", SimpleNamespace(NetworkDefinitionCreationFlag=flags), "11.0")
    assert library.bit("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") == bit


def test_the_real_one() -> None:
    pytest.importorskip("tensorrt_rtx")
    library = load_library("tensorrt_rtx")
    assert library.bit("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") == 1
    log = library.new_log()
    log.log(library.module.ILogger.ERROR, "two\nlines")
    log.log(library.module.ILogger.INFO, "not an error")
    assert log.errors == ["two lines"]
