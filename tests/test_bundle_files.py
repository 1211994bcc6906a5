"""Sizes are known before anything is read; damaged arrays are named, whatever NumPy makes of them."""

from __future__ import annotations

import io
import os
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle, write_bundle
from simplenet_edge.bundle_files import npy_array, npy_bytes
from simplenet_edge.errors import BundleError, ConfigError
from tests.bundles import tiny_files, tiny_manifest, write_tiny_bundle

LIMIT = "SIMPLENET_EDGE_MAX_BUNDLE_MIB"


def zipped(path: Path, extra: dict[str, bytes]) -> Path:
    """The tiny bundle as a compressed .zip, with more files in it."""
    folder = write_tiny_bundle(path.with_suffix(".folder")).path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
        for name, data in extra.items():
            archive.writestr(name, data)
    return path


def test_a_zip_that_grows_too_large_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bomb.zip", {"zeros": bytes(200 * 2**20)})
    assert path.stat().st_size < 2**20
    with pytest.raises(BundleError, match=rf"the bundle has 200 MiB, more than the 64 MiB .* set {LIMIT}"):
        Bundle(path)


def test_a_declared_size_is_believed_before_anything_is_read(tmp_path: Path) -> None:
    """The directory of the archive says 3 GiB for a file that has a few bytes."""
    path = zipped(tmp_path / "liar.zip", {"zeros": b"x" * 1234})
    path.write_bytes(path.read_bytes().replace((1234).to_bytes(4, "little"), (3 * 2**30).to_bytes(4, "little")))
    with pytest.raises(BundleError, match="the bundle has 3072 MiB"):
        Bundle(path)


@pytest.mark.parametrize("kind", ["tiny", "tiny.zip"])
def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    files = {**tiny_files(), "weights": os.urandom(2 * 2**20)}
    path = write_bundle(tmp_path / kind, tiny_manifest(), files).path
    monkeypatch.setenv(LIMIT, "1")
    with pytest.raises(BundleError, match="the bundle has 2 MiB, more than the 1 MiB"):
        Bundle(path)
    monkeypatch.setenv(LIMIT, "3")
    assert Bundle(path).read_bytes("weights") == files["weights"]
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(ConfigError, match=f"{LIMIT} must be a number of MiB, not 'much'"):
        Bundle(path)


def test_a_zip_of_too_many_files_or_two_of_one_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="at most 10000 of different names"):
        Bundle(zipped(tmp_path / "many.zip", {str(i): b"" for i in range(10_001)}))
    path = zipped(tmp_path / "twice.zip", {})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("manifest.json", "{}")
    with pytest.raises(BundleError, match="may have one name"):
        Bundle(path)


@pytest.mark.parametrize("name", ["manifest.json", "golden/map.npy"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    path = write_tiny_bundle(tmp_path / "tiny").path
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(BundleError, match=f"{name} is no regular file"):
        Bundle(path)
    with pytest.raises(BundleError, match="neither a folder nor a whole"):
        Bundle(path / name)


def test_a_manifest_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny").path
    with (path / "manifest.json").open("r+b") as file:
        file.truncate(3 * 2**30)  # takes no room on disk
    with pytest.raises(BundleError, match=r"manifest\.json has 3072 MiB, more than the 16 MiB"):
        Bundle(path)


def header(text: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


DAMAGED = {
    "empty": b"",
    "no array": b"not an array",
    "objects": header(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n"),
    "a huge shape": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"),
    "a shape below zero": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }\n", bytes(4)),
    "an open bracket": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,", bytes(4)),
    "deep": header(b"(" * 20_000, bytes(4)),
    "a list": header(b"[1, 2]", bytes(4)),
    "another version": header(b"{}", version=b"\x09\x00"),
    "an archive": b"PK\x05\x06" + bytes(18),
    "other numbers": npy_bytes(np.zeros(4)),
    "cut off": npy_bytes(np.zeros(4, np.float32))[:-1],
    "not finite": npy_bytes(np.array([0, np.nan], np.float32)),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_array_is_named(tmp_path: Path, data: bytes) -> None:
    bundle = write_bundle(tmp_path / "tiny", tiny_manifest(), {**tiny_files(), "golden/score.npy": data})
    with pytest.raises(BundleError, match=r"golden/score\.npy is .*; export again"):
        bundle.golden()


@pytest.mark.parametrize("count", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_no_damage_to_an_array_raises_anything_else(count: int) -> None:
    generator, original = random.Random(count), npy_bytes(np.arange(6, dtype=np.float32))
    for _ in range(count):
        data = bytearray(original)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data) if generator.random() < 0.3 else 80)] = generator.randrange(256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, of odd headers
                array = npy_array(
                    bytes(data[: generator.randint(0, len(data))] if generator.random() < 0.2 else data), np.float32
                )
        except ValueError:
            continue
        assert array.dtype == np.float32
        assert array.size == 6
        assert np.isfinite(array).all()


def test_arrays_survive() -> None:
    for array in (np.zeros((2, 3), np.uint8), np.float32(3)[None], np.asfortranarray(np.ones((4, 5), np.float32))):
        np.testing.assert_array_equal(npy_array(npy_bytes(array), array.dtype.type), array)
    assert np.load(io.BytesIO(npy_bytes(np.arange(3)))).tolist() == [0, 1, 2]
