from __future__ import annotations

import os
from pathlib import Path

import pytest

from simplenet_edge.imaging.folder import image_files


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path, _ in image_files(folder))


def touch(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")


def test_images_at_any_depth_without_hidden_and_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "B.JPG", "deep/er/c.bmp", "._a.png", ".hidden/d.png", "notes.txt", "no_ending")
    assert names(tmp_path) == ["B.JPG", "a.png", "deep/er/c.bmp"]
    assert {stat.st_size for _, stat in image_files(tmp_path)} == {1}


def test_linked_folders_are_followed_and_each_folder_comes_once(tmp_path: Path) -> None:
    touch(tmp_path, "set/real/a.png", "elsewhere/b.png", "elsewhere/deep/c.png")
    folder = tmp_path / "set"
    for link, target in {"again": "real", "more": "../elsewhere", "other": "../elsewhere/deep", "up": "."}.items():
        (folder / link).symlink_to(target, target_is_directory=True)
    (folder / "linked.png").symlink_to("../elsewhere/b.png")
    assert names(folder) == ["linked.png", "more/b.png", "more/deep/c.png", "real/a.png"]


def test_links_to_nowhere_and_in_circles_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    assert names(tmp_path) == ["a.png"]


def test_a_folder_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "nowhere")
    touch(tmp_path, "file")
    with pytest.raises(NotADirectoryError):
        names(tmp_path / "file")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_forbidden_folder_below_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "secret/a.png")
    (tmp_path / "secret").chmod(0)
    try:
        with pytest.raises(PermissionError):
            names(tmp_path)
    finally:
        (tmp_path / "secret").chmod(0o700)


def test_pipes_and_links_to_nowhere_are_named_as_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    others: list[Path] = []
    assert [path.name for path, _ in image_files(tmp_path, others)] == ["a.png"]
    assert sorted(path.name for path in others) == ["link.png", "pipe.png"]
