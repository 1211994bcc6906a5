from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import FrameRecord, ImageFiles, VideoFile, open_source
from simplenet_edge.spec import Frames

N_FRAMES = 20
VIDEO_HW = (48, 64)


def write_video(path: Path, codec: str = "MJPG") -> Path:
    """N_FRAMES frames of noise; frame i has the mean 10 * i + 5."""
    height, width = VIDEO_HW
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (width, height))
    assert writer.isOpened()
    for i in range(N_FRAMES):
        writer.write(rng.integers(10 * i, 10 * i + 11, (height, width, 3), dtype=np.uint8))
    writer.release()
    return path


def records_of(uri: Path | str) -> list[FrameRecord]:
    with open_source(str(uri)) as source:
        return list(source)


def image_of(record: FrameRecord) -> Frames:
    assert record.image is not None, record.error
    return record.image


def test_a_folder_gives_its_images_in_natural_order_with_the_broken_one_named(parts: Path) -> None:
    records = records_of(parts)
    assert [record.name for record in records] == [
        "late/part10.png", "part1.png", "part2.png", "part3.png", "part4.jpg"
    ]  # fmt: skip
    assert [record.frame_id for record in records] == [0, 1, 2, 3, 4]
    *whole, broken = records
    assert all(image_of(record).shape == (32, 48, 3) and record.error is None for record in whole)
    assert broken.image is None
    assert str(parts / "part4.jpg") in (broken.error or "")


@pytest.mark.parametrize(
    "names",
    [
        ["img2.png", "img10.png"],
        ["2.png", "10.png", "100.png"],
        ["a1b2.png", "a1b10.png", "a2b1.png"],
        ["day1/part9.png", "day1/part10.png", "day02/part1.png"],
        ["A1.png", "a2.png", "B3.png"],
        ["1a.png", "1\u0661.png"],  # an Arabic digit is text, not a number
    ],
)
def test_natural_order(tmp_path: Path, names: list[str]) -> None:
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [record.name for record in records_of(tmp_path)] == names


def test_one_image_is_a_source_of_one_frame_whatever_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "deep.PNG"
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) << 8
    assert cv2.imwrite(str(path), grey)
    (record,) = records_of(path)
    assert record.name == "deep.PNG"
    np.testing.assert_array_equal(image_of(record), np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_times_are_utc_and_now(parts: Path) -> None:
    for record in records_of(parts):
        assert record.wall_time.tzinfo is timezone.utc
        assert timedelta() <= datetime.now(timezone.utc) - record.wall_time < timedelta(seconds=30)


def test_real_images_of_different_sizes(shared: Path) -> None:
    folder = shared / "data/magnetic_tile/test/crack"
    records = records_of(folder)
    assert len(records) == len(list(folder.iterdir()))
    assert all(record.error is None for record in records)
    assert len({image_of(record).shape for record in records}) > 1


def test_a_video_gives_every_frame_in_order(tmp_path: Path) -> None:
    records = records_of(write_video(tmp_path / "line.avi"))
    assert [record.name for record in records] == [f"line.avi#{i}" for i in range(N_FRAMES)]
    for i, record in enumerate(records):
        assert image_of(record).shape == (*VIDEO_HW, 3)
        assert abs(float(image_of(record).mean()) - (10 * i + 5)) < 3  # JPEG


def test_frames_of_a_video_do_not_share_memory(tmp_path: Path) -> None:
    records = records_of(write_video(tmp_path / "line.avi"))
    assert not np.shares_memory(image_of(records[0]), image_of(records[1]))


def test_a_video_that_was_cut_off_says_so_at_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    *whole, last = records_of(path)
    assert 0 < len(whole) < N_FRAMES
    assert all(record.error is None for record in whole)
    assert last.image is None
    assert f"ended after {len(whole)} of {N_FRAMES} frames" in (last.error or "")


def test_a_video_without_one_whole_frame_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi")
    data = path.read_bytes()
    start, end = data.index(b"movi") + 8, data.index(b"idx1") - 8
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(SourceError, match="opens but gives no frame"):
        records_of(path)


def test_a_container_whose_count_is_a_guess_is_not_held_against_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    records = records_of(path)
    assert 0 < len(records) < N_FRAMES
    assert all(record.error is None for record in records)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{tmp}/missing", "no such file or folder; a camera is v4l2"),
        ("{tmp}/empty", r"no images in it; expected \.bmp"),
        ("{tmp}/text.avi", r"OpenCV .* could not open cv2\.VideoCapture\('.*text\.avi'\)"),
        ("{tmp}/text.txt", "check that it is a whole video"),
    ],
)
def test_what_gives_no_frames_is_refused(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_text("no image")
    for name in ("text.avi", "text.txt"):
        (tmp_path / name).write_text("this is no video")
    with pytest.raises(SourceError, match=message):
        records_of(uri.format(tmp=tmp_path))


def test_kinds_and_folders(tmp_path: Path, parts: Path) -> None:
    video = write_video(tmp_path / "line.avi")
    assert isinstance(open_source(str(parts)), ImageFiles)
    assert open_source(str(parts)).folder == parts
    assert open_source(str(parts / "part1.png")).folder is None
    assert isinstance(open_source(str(video)), VideoFile)


def test_is_not_iterated_outside_with(tmp_path: Path, parts: Path) -> None:
    for source in (open_source(str(parts)), open_source(str(write_video(tmp_path / "line.avi")))):
        with pytest.raises(SourceError, match="not open"):
            next(iter(source))
        with source:
            next(iter(source))
        with pytest.raises(SourceError, match="not open"):
            next(iter(source))


@pytest.mark.parametrize(("name", "codec"), [("line.avi", "MJPG"), ("line.avi", "XVID"), ("line.mp4", "mp4v")])
@pytest.mark.parametrize("damage", ["holes", "zeros", "missing"])
def test_of_a_damaged_video_every_frame_comes_or_is_an_error(
    tmp_path: Path, name: str, codec: str, damage: str
) -> None:
    path = write_video(tmp_path / name, codec)
    data = bytearray(path.read_bytes())
    first = (
        data.index(b"mdat" if name.endswith(".mp4") else b"movi") + 4
    )  # of a damaged header FFmpeg's versions differ
    start, end = (first + (len(data) - first) // part for part in (3, 2))
    if damage == "holes":
        for hole in range(start, end, 512):
            data[hole : hole + 256] = bytes(256)
    elif damage == "zeros":
        data[start:end] = bytes(end - start)
    else:
        del data[start:end]
    path.write_bytes(data)
    if name.endswith(".mp4") and damage == "missing":  # its index is not where it should be
        with pytest.raises(SourceError, match="could not open"):
            records_of(path)
        return
    records = records_of(path)
    assert [record.frame_id for record in records] == list(range(len(records)))
    shown = [record for record in records if record.image is not None]
    assert len(shown) > N_FRAMES // 2
    assert len(records) == N_FRAMES or f"after {len(records) - 1} of {N_FRAMES} frames" in (records[-1].error or "")


def test_a_frame_that_can_not_be_decoded_takes_no_other_with_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi")
    data = bytearray(path.read_bytes())
    starts = [start for start in range(data.index(b"movi"), len(data)) if data.startswith(b"00dc", start)]
    data[starts[7] + 8 : starts[8]] = bytes(starts[8] - starts[7] - 8)
    path.write_bytes(data)
    records = records_of(path)
    assert [record.frame_id for record in records if record.image is None] == [7]
    assert "frame 7 of" in (records[7].error or "")
    assert abs(float(image_of(records[8]).mean()) - 85) < 3


def test_stops_in_the_middle_without_a_word(tmp_path: Path, parts: Path) -> None:
    for uri in (parts, write_video(tmp_path / "line.avi")):
        with open_source(str(uri)) as source:
            frames = iter(source)
            assert next(frames).error is None
            source.stop()
            assert list(frames) == []


def test_damaged_frames_of_a_motion_jpeg_are_invalid_where_they_are(tmp_path: Path) -> None:
    path = write_video(tmp_path / "line.avi")
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at)]
    assert len(starts) == N_FRAMES
    for frame in (3, N_FRAMES - 1):
        end = data.index(b"\xff\xd9", starts[frame])
        data = data[: end - 60] + bytes(50) + data[end - 10 :]
    path.write_bytes(data)
    records = records_of(path)
    assert [record.frame_id for record in records] == list(range(N_FRAMES))
    assert [record.frame_id for record in records if record.error] == [3, N_FRAMES - 1]


@pytest.mark.parametrize(("name", "codec"), [("line.mp4", "mp4v"), ("line.mov", "MJPG")])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_video_is_turned_as_its_container_says(tmp_path: Path, name: str, codec: str, degrees: int) -> None:
    path = write_video(tmp_path / name, codec)
    upright = [image_of(record) for record in records_of(path)]
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix, turned = (
        struct.pack(">9i", c << 16, s << 16, 0, -s << 16, c << 16, 0, 0, 0, 0x40000000) for c, s in ((1, 0), (cos, sin))
    )
    data = path.read_bytes()
    track = data.index(matrix, data.index(b"tkhd"))
    path.write_bytes(data[:track] + turned + data[track + len(matrix) :])
    for record, image in zip(records_of(path), upright, strict=True):
        np.testing.assert_array_equal(image_of(record), np.rot90(image, -degrees // 90))


def test_what_is_no_image_in_a_folder_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cv2.imwrite(str(tmp_path / "part.pgm"), np.full((8, 8), 7, np.uint8))
    for name in ("notes.txt", "part.jp2", "._part.png"):
        (tmp_path / name).write_bytes(b"")
    records = records_of(tmp_path)
    assert [record.name for record in records][-1] == "part.pgm"
    assert "passed over as no images: 'notes.txt', 'part.jp2'" in caplog.text
