from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources import WatchedFolder, open_source
from simplenet_edge.runtime.sources import folder_watch as watch
from simplenet_edge.spec import Frames
from tests.runtime.sources.ip_camera import first

PART = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PNG = cv2.imencode(".png", PART)[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def frames(folder: Path) -> Iterator[Iterator[FrameRecord]]:
    with WatchedFolder(folder, poll_s=0.01, settle_s=0.3) as source:
        yield iter(source)


def move_in(folder: Path, name: str, data: bytes = PNG, at: float | None = None) -> None:
    """As a careful program writes: under another name, then renamed."""
    (folder / f"{name}.part").write_bytes(data)
    if at is not None:
        os.utime(folder / f"{name}.part", (at, at))
    (folder / f"{name}.part").rename(folder / name)


def test_new_images_come_as_they_arrive(folder: Path, frames: Iterator[FrameRecord]) -> None:
    (folder / "day2").mkdir()
    for i, name in enumerate(("b.png", "a.png", "day2/c.png")):
        move_in(folder, name)
        record = next(frames)
        assert (record.frame_id, record.name, record.error) == (i, name, None)
        np.testing.assert_array_equal(record.image, PART)


def test_many_at_once_come_each_once_in_the_order_of_their_times(folder: Path) -> None:
    with WatchedFolder(folder, poll_s=0.01) as source:
        for i, name in enumerate(("c.png", "a.png", "b.png")):
            move_in(folder, name, at=1000.0 + i)
        frames = iter(source)
        assert [next(frames).name for _ in range(3)] == ["c.png", "a.png", "b.png"]
        move_in(folder, "d.png")
        assert next(frames).name == "d.png"


@pytest.mark.parametrize(("query", "names"), [("", ["new.png"]), ("?existing=1", ["old.png", "new.png"])])
def test_what_was_there_is_left_alone_unless_asked_for(folder: Path, query: str, names: list[str]) -> None:
    move_in(folder, "old.png", at=1000.0)
    with open_source(f"watch:{folder}{query}") as source:
        assert source.folder == folder
        move_in(folder, "new.png")
        frames = iter(source)
        assert [next(frames).name for _ in names] == names


def test_a_file_that_still_grows_is_waited_for(folder: Path, frames: Iterator[FrameRecord]) -> None:
    with (folder / "slow.png").open("wb") as file:
        file.write(PNG[:100])
        file.flush()
        move_in(folder, "quick.png")
        assert next(frames).name == "quick.png"  # it isn't held up
        file.write(PNG[100:])
    record = next(frames)
    assert (record.name, record.error) == ("slow.png", None)


@pytest.mark.parametrize("name", ["cut.png", "text.jpg", "text.bmp"])
def test_a_file_that_stays_undecodable_is_an_error_once(folder: Path, frames: Iterator[FrameRecord], name: str) -> None:
    move_in(folder, name, PNG[:100])
    record = next(frames)
    assert (record.name, record.image) == (name, None)
    assert str(folder / name) in (record.error or "")
    move_in(folder, "next.png")
    assert next(frames).name == "next.png"
    move_in(folder, name, cv2.imencode(Path(name).suffix, PART)[1].tobytes())  # sent again, whole
    record = next(frames)
    assert (record.name, record.error) == (name, None)


def test_an_overwritten_file_is_a_new_one(folder: Path, frames: Iterator[FrameRecord]) -> None:
    for i in range(3):
        move_in(folder, "latest.png", cv2.imencode(".png", PART[: 40 + i])[1].tobytes())
        record = next(frames)
        assert record.image is not None
        assert record.image.shape[0] == 40 + i


def test_a_copying_program_that_sets_the_time_afterwards_sends_no_new_file(
    folder: Path, frames: Iterator[FrameRecord]
) -> None:
    move_in(folder, "a.png")
    assert next(frames).name == "a.png"
    os.utime(folder / "a.png", (1000.0, 1000.0))
    move_in(folder, "b.png")
    assert next(frames).name == "b.png"


def test_other_and_hidden_files_are_left_alone(folder: Path, frames: Iterator[FrameRecord]) -> None:
    (folder / "note.txt").write_text("no image")
    (folder / ".a.png").write_bytes(PNG)
    (folder / "b.png.tmp").write_bytes(PNG)
    move_in(folder, "a.png")
    assert next(frames).name == "a.png"


def test_a_file_that_is_taken_away_unread_is_an_error(folder: Path, frames: Iterator[FrameRecord]) -> None:
    (folder / "a.png").write_bytes(PNG[:100])
    move_in(folder, "b.png")
    assert next(frames).name == "b.png"  # so a.png was seen
    (folder / "a.png").unlink()
    record = next(frames)
    assert (record.name, record.image) == ("a.png", None)
    assert "can't be read" in (record.error or "")


def test_a_folder_that_goes_is_invalid_and_comes_back(folder: Path) -> None:
    move_in(folder, "old.png", at=1000.0)
    with WatchedFolder(folder, poll_s=0.01) as source:
        frames = iter(source)
        folder.rename(folder.parent / "unmounted")
        record = next(frames)
        assert "check that the folder is there and mounted" in (record.error or "")
        assert not source.connected
        (folder.parent / "unmounted").rename(folder)
        move_in(folder, "new.png")
        record = first(frames, lambda record: record.error is None)
        assert record.name == "new.png"
        assert (source.connected, source.reconnects) == (True, 1)


def test_a_share_that_is_not_mounted_any_more_is_invalid_and_its_old_files_stay_old(folder: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    share = folder.parent / "share"
    share.mkdir()
    try:
        move_in(folder, "old.png", at=1000.0)
        with WatchedFolder(folder, poll_s=0.01) as source:
            frames = iter(source)
            subprocess.run(["mount", "--move", str(folder), str(share)], check=True)
            assert "it is not mounted" in (next(frames).error or "")
            subprocess.run(["mount", "--move", str(share), str(folder)], check=True)
            move_in(folder, "new.png")
            assert first(frames, lambda record: record.error is None).name == "new.png"
    finally:
        for place in (folder, share):
            if os.path.ismount(place):
                subprocess.run(["umount", str(place)], check=True)


def test_a_file_that_is_written_while_it_is_read_comes_once(
    folder: Path, frames: Iterator[FrameRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = cv2.imencode(".png", np.vstack([PART, PART]))[1].tobytes()
    reads: list[bytes] = []

    def decode_and_write(data: bytes, bit_depth: int) -> Frames:
        if not reads:
            (folder / "a.png").write_bytes(larger)
        reads.append(data)
        return decode_image(data, bit_depth)

    monkeypatch.setattr(watch, "decode_image", decode_and_write)
    move_in(folder, "a.png")
    record = next(frames)
    assert record.image is not None
    assert (record.name, record.image.shape[0]) == ("a.png", 96)
    move_in(folder, "b.png")
    assert next(frames).name == "b.png"
    assert reads == [PNG, larger, PNG]


def test_a_file_written_again_in_place_is_a_new_one_whatever_its_time_says(
    folder: Path, frames: Iterator[FrameRecord]
) -> None:
    """As a copying program does that keeps the time of what it copies; the size is the same too."""
    images = [cv2.imencode(".bmp", PART + grey)[1].tobytes() for grey in (0, 1, 2)]
    move_in(folder, "a.bmp", images[0])
    assert next(frames).name == "a.bmp"
    for image, at in ((images[1], 1000.0), (images[2], 1000.0), (images[0], 500.0)):
        (folder / "a.bmp").write_bytes(image)
        os.utime(folder / "a.bmp", (at, at))
        record = next(frames)
        assert record.image is not None
        assert record.image[0, 0, 0] == decode_image(image)[0, 0, 0]


def test_a_folder_that_is_not_there_is_an_error_unless_there_is_patience(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with pytest.raises(SourceError, match="No such file or directory"):
        open_source(f"watch:{folder}").__enter__()
    source = WatchedFolder(folder, poll_s=0.01)
    source.patient = True
    with source:
        frames = iter(source)
        assert "check that the folder is there" in (next(frames).error or "")
        share = tmp_path / "share"
        share.mkdir()
        move_in(share, "old.png", at=1000.0)  # from before the start
        move_in(share, "new.png", at=time.time() + 1)
        share.rename(folder)
        assert first(frames, lambda record: record.error is None).name == "new.png"


def test_stop_ends_the_wait(folder: Path) -> None:
    with WatchedFolder(folder) as source:
        thread = threading.Thread(target=lambda: list(source))
        thread.start()
        source.stop()
        thread.join(60)
        assert not thread.is_alive()
    shutil.rmtree(folder)


def unreadable_folder(folder: Path) -> Path:
    """A folder below `folder` that nobody can read, not even root: its path is longer than the system takes."""
    descriptor, name = os.open(folder, os.O_RDONLY), "d" * 250
    top = folder / name
    for _ in range(17):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    return top


def test_a_subfolder_that_can_not_be_read_is_invalid_and_the_others_are_inspected(folder: Path) -> None:
    with WatchedFolder(folder, poll_s=0.01) as source:
        frames = iter(source)
        move_in(folder, "first.png")
        assert first(frames, lambda record: record.error is None).name == "first.png"
        top = unreadable_folder(folder)
        assert "d" * 250 in (first(frames, lambda record: record.error is not None).error or "")
        assert not source.connected
        move_in(folder, "second.png")
        assert first(frames, lambda record: record.error is None).name == "second.png"
        shutil.rmtree(top)
        move_in(folder, "third.png")
        assert first(frames, lambda record: record.error is None).name == "third.png"
        assert (source.connected, source.reconnects) == (True, 1)


def test_with_strict_a_subfolder_that_can_not_be_read_is_an_error(folder: Path) -> None:
    unreadable_folder(folder)
    with pytest.raises(SourceError, match=r"dddd.*can't be read"):
        WatchedFolder(folder).__enter__()


def test_a_file_of_60_gigabytes_is_invalid_and_the_next_one_is_inspected(folder: Path) -> None:
    with WatchedFolder(folder, poll_s=0.01, settle_s=0.1) as source:
        frames = iter(source)
        with (folder / "huge.png").open("wb") as file:
            file.truncate(60 * 2**30)
        assert "expected at most" in (next(frames).error or "")
        move_in(folder, "next.png")
        assert next(frames).error is None


def test_the_age_of_a_verdict_counts_from_the_arrival_however_many_wait(folder: Path) -> None:
    with WatchedFolder(folder, poll_s=0.01) as source:
        for name in ("a.png", "b.png"):
            move_in(folder, name)
        frames = iter(source)
        next(frames)
        read_s = time.monotonic()
        assert next(frames).monotonic_s < read_s


def test_what_is_passed_over_is_said_once_for_each_ending(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with WatchedFolder(folder, poll_s=0.01) as source:
        for name in ("part.heic", "another.heic", "part.txt"):
            (folder / name).touch()
        os.mkfifo(folder / "pipe.png")
        (folder / "link.tif").symlink_to("nowhere")
        move_in(folder, "part.png")
        next(iter(source))
    said = [text for text in caplog.messages if "passed over" in text]
    for ending in (".heic", ".txt", ".png", ".tif"):
        assert sum(f"all '{ending}' files" in text for text in said) == 1, ending


def test_what_is_older_than_the_run_where_the_folder_was_away_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, share = tmp_path / "in", tmp_path / "share"
    share.mkdir()
    move_in(share, "old.png", at=1000.0)
    move_in(share, "new.png", at=time.time() + 60)
    source = WatchedFolder(folder, poll_s=0.01)
    source.patient = True
    with source:
        share.rename(folder)
        assert first(iter(source), lambda record: record.error is None).name == "new.png"
    assert any("1 images are older than this run" in text for text in caplog.messages)
