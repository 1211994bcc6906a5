"""Whole files and folders, one writer a folder, and one kind of error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simplenet_edge import files
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.files import lock, require_writable, write_bytes, write_folder
from tests.faults import no_file_beyond


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_can_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with no_file_beyond(100), pytest.raises(OSError, match="File too large"):
        write_bytes(tmp_path / "file", bytes(101))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:  # as on a file system that can't
        monkeypatch.setattr(files, "_RENAME_EXCHANGE", 1 << 9)
    for version in (b"1", b"2"):
        write_folder(tmp_path / "folder", {"a": version, f"deep/{version.decode()}": b""})
        assert (tmp_path / "folder" / "a").read_bytes() == version
        assert names(tmp_path / "folder" / "deep") == [version.decode()]
        assert names(tmp_path) == ["folder"]


def test_a_link_to_a_folder_is_replaced_and_its_folder_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "v1", {"a": b"1"})
    (tmp_path / "current").symlink_to("v1")
    write_folder(tmp_path / "current", {"a": b"2"})
    assert (tmp_path / "current" / "a").read_bytes() == b"2"
    assert (tmp_path / "v1" / "a").read_bytes() == b"1"
    assert names(tmp_path) == ["current", "v1"]


def test_a_lock_is_for_one_process_and_ends_with_it(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, simplenet_edge.files as files\n"
        "with files.lock(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="another process is at work"), lock(tmp_path / "lock"):
            pass
        holder.kill()
    with lock(tmp_path / "lock"):
        assert names(tmp_path) == ["lock"]


def test_a_place_that_can_not_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100)):
        with pytest.raises(DataError, match="can't be written"):
            require_writable(place)
    require_writable(tmp_path / "new" / "folder")
    assert names(tmp_path / "new") == ["folder"]
