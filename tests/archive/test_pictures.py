"""Which pictures words stand for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from simplenet_edge.archive.pictures import find_pictures, read_picture
from simplenet_edge.errors import ConfigError, DataError

PNG = b"not looked into here"


def names(*words: object) -> list[str]:
    return sorted({picture.path for picture in find_pictures([str(word) for word in words], [])})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "deep/er/c.tiff", ".git/d.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    (root / "nowhere.png").symlink_to(root / "gone.png")
    return root


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def test_a_folder_with_its_subfolders(folder: Path) -> None:
    assert names(folder) == [str(folder / name) for name in ("a.png", "b.JPG", "deep/er/c.tiff")]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("*.png", ["a.png"]),
        ("**", ["a.png", "b.JPG", "deep/er/c.tiff"]),
        ("de*", ["deep/er/c.tiff"]),  # a folder that a pattern stands for
        ("b.JPG", ["b.JPG"]),
        ("deep/../a.png", ["a.png"]),
    ],
)
def test_globs_and_files(folder: Path, word: str, expected: list[str]) -> None:
    assert names(folder / word) == [str(folder / name) for name in expected]


def test_one_name_for_a_file_however_it_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    words = ("archive", "link", "archive/*", f"file://{folder}", folder / "a.png", "./archive/a.png")
    assert names(*words) == names(folder)


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "[1].png").write_bytes(PNG)
    assert names(tmp_path / "[1].png") == [str(tmp_path / "[1].png")]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/part\xff\n.png"
    with open(path, "wb") as file:
        file.write(PNG)
    (found,) = find_pictures([str(tmp_path)], [])
    assert found.path == f"{tmp_path}/part\\udcff\n.png"
    assert read_picture(found, []) == PNG


def test_a_store(memory: Any) -> None:
    for name in ("/lake/a.png", "/lake/deep/b.JPG", "/lake/notes.txt", "/lake/.c.png", "/lake/.d/e.png"):
        memory.pipe(name, PNG)
    assert names("memory://lake") == ["memory:///lake/a.png", "memory:///lake/deep/b.JPG"]
    assert names("memory://lake/*.png", "memory://lake/a.png") == ["memory:///lake/a.png"]
    stores: list[Any] = []
    found = next(iter(find_pictures(["memory://lake"], stores)))
    assert (found.bytes, found.mtime_us is None) == (len(PNG), False)
    assert read_picture(found, stores) == PNG
    memory.rm("/lake/a.png")
    with pytest.raises(DataError, match="can't be read"):
        read_picture(found, stores)


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("nope://bucket/a", ConfigError, "nope:// is no store that fsspec knows"),
        ("dbfs2://x", ConfigError, "is no store"),
        ("smb://host/share", ConfigError, "smb:// needs a package that is missing"),
        ("zip://*.png::a.zip", ConfigError, "several chained by ::"),
        ("memory://empty", DataError, "memory:// can't be reached or listed|nothing is at"),
        ("ftp://127.0.0.1:1/a", DataError, "ftp:// can't be reached"),
        ("gone", DataError, "no such file or folder"),
        ("gone*", DataError, "nothing goes by that pattern"),
    ],
)
def test_what_is_not_there(word: str, kind: type[Exception], message: str, memory: Any) -> None:
    with pytest.raises(kind, match=message):
        names(word)
