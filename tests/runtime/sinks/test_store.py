from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.runtime.records import FrameResult, Part
from simplenet_edge.runtime.sinks import OverlaySink, PictureStore
from simplenet_edge.runtime.sources.base import View
from tests.bundles import HEIGHT, THRESHOLD, WIDTH
from tests.runtime.sinks.results import NORMAL_LEVEL, result, worker
from tests.waiting import until

KINDS = ["ng", "invalid", "borderline", "ok"]


def scored(number: int, score: float, **about: Any) -> FrameResult:
    """An OK frame with this score."""
    ok = result(number)
    assert ok.detection is not None
    detection = dataclasses.replace(ok.detection, score=score)
    return dataclasses.replace(ok, detection=detection, record=dataclasses.replace(ok.record, **about))


def with_image(frame: FrameResult, image: Any) -> FrameResult:
    return dataclasses.replace(frame, record=dataclasses.replace(frame.record, image=image))


def noise(number: int, kind: str, height: int = HEIGHT) -> FrameResult:
    """A frame of that kind whose picture takes about `144 * height` bytes."""
    image = np.random.default_rng(number).integers(0, 256, (height, WIDTH, 3), dtype=np.uint8)
    frame = result(number, "NG" if kind == "ng" else "OK")
    if kind == "borderline":
        frame = scored(number, THRESHOLD - 1)
    if kind == "invalid":
        frame = dataclasses.replace(frame, reason="the camera has moved", cause="watch")
    return with_image(frame, image)


def kept(folder: Path) -> list[str]:
    """What lies in the folders of the kinds, by kind and ending."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))


def numbers(folder: Path, kind: str) -> list[int]:
    """The frames that are kept of a kind; picture and record both, or the test fails."""
    pictures, records = ({path.stem for path in (folder / kind).glob(f"*{end}")} for end in (".png", ".json"))
    assert pictures == records
    assert len(list((folder / kind).iterdir())) == 2 * len(pictures)
    return sorted(int(name.split("-")[1]) for name in pictures)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


@pytest.mark.parametrize(
    ("frame", "kind", "why"),
    [
        (noise(1, "ng"), "ng", "ng"),
        (noise(2, "invalid"), "invalid", "invalid"),
        (dataclasses.replace(noise(3, "ng"), reason="late", cause="deadline"), "invalid", "invalid"),
        (noise(4, "borderline"), "borderline", "borderline"),
        (noise(5, "ok"), "ok", "sample"),
    ],
)
def test_the_pixels_that_were_inspected_and_their_record(
    tmp_path: Path, frame: FrameResult, kind: str, why: str
) -> None:
    folder = tmp_path / "new" / "kept"
    cropped = View((3, 5, 40, 20)).crop(dataclasses.replace(frame.record, part=Part("A 4711/x", "lid")))
    frame = dataclasses.replace(frame, record=cropped)
    with PictureStore(folder, ok_share=1) as store:
        assert store.wants(frame)
        store.write(frame)
    n = cropped.frame_id
    stem = f"{kind}/20260301T1230{15 + n}.123456Z-0000000{n}-left-A_4711_x-{frame.verdict}"
    assert kept(folder) == [f"{stem}.json", f"{stem}.png"]
    assert cropped.image is not None
    np.testing.assert_array_equal(read_image(folder / f"{stem}.png"), cropped.image)
    assert json.loads((folder / f"{stem}.json").read_text()) == {**frame.to_dict(), "why": why}


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(result(1), id="an OK that is not drawn"),
        pytest.param(result(2, "INVALID"), id="no image"),
        # an engine refuses these, and they reach the sinks as INVALID
        *(
            pytest.param(with_image(noise(3, "invalid"), np.zeros(shape, dtype)), id=f"{dtype}{shape}")
            for shape, dtype in [((0, 4, 3), "u1"), ((4, 4), "u1"), ((4, 4, 4), "u1"), ((4, 4, 3), "f4")]
        ),
    ],
)
def test_what_is_not_kept(tmp_path: Path, frame: FrameResult) -> None:
    with PictureStore(tmp_path, ok_share=0) as store:
        assert not store.wants(frame)
        store.write(frame)
    assert kept(tmp_path) == []


def test_a_frame_without_a_part_id_is_called_by_its_name_and_one_without_a_camera_by_it_alone(tmp_path: Path) -> None:
    with PictureStore(tmp_path) as store:
        store.write(scored(7, THRESHOLD, name="../teil größe.png", camera=""))
    assert "borderline/20260301T123022.123456Z-00000007-.._teil_gr_e.png-OK.png" in kept(tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("offset", [0.0, -1.0, 1000.0])
def test_what_is_borderline_depends_on_no_scale(tmp_path: Path, scale: float, offset: float) -> None:
    def frame(position: float) -> FrameResult:
        """An OK frame at 0 for the median of good scores, 1 for the threshold."""
        ok = scored(1, (offset + position) * scale)
        assert ok.detection is not None
        threshold, normal_level = (offset + 1) * scale, offset * scale
        detection = dataclasses.replace(ok.detection, threshold=threshold, normal_level=normal_level)
        return dataclasses.replace(ok, detection=detection)

    store = PictureStore(tmp_path, ok_share=0)
    assert [store.wants(frame(position)) for position in (-1, 0, 0.5, 0.89, 0.91, 1)] == [False] * 4 + [True] * 2
    assert PictureStore(tmp_path, ok_share=0, margin=0.6).wants(frame(0.5))


def test_a_threshold_below_good_scores_has_no_borderline(tmp_path: Path) -> None:
    frame = scored(1, 5.0)
    assert frame.detection is not None
    assert frame.detection.normal_level == NORMAL_LEVEL > 5.0
    frame = dataclasses.replace(frame, detection=dataclasses.replace(frame.detection, threshold=5.0))
    assert not PictureStore(tmp_path, ok_share=0).wants(frame)


def test_ok_frames_are_drawn_whatever_their_score(tmp_path: Path) -> None:
    def drawn(seed: int | None, score: float, camera: str = "left") -> list[int]:
        store = PictureStore(tmp_path, ok_share=0.05, seed=seed)
        return [n for n in range(4000) if store.wants(scored(n, score, camera=camera))]

    first = drawn(1, 0.0)
    assert 150 < len(first) < 250
    assert drawn(1, THRESHOLD / 2) == first
    for other in (drawn(2, 0.0), drawn(1, 0.0, "right"), drawn(None, 0.0)):
        assert 150 < len(other) < 250
        assert other != first
    assert drawn(None, 0.0) != drawn(None, 0.0)


def test_a_flood_of_invalid_does_not_push_out_the_ng(tmp_path: Path) -> None:
    with PictureStore(tmp_path, ok_share=1, quota_bytes=130_000) as store:
        for n in range(6):
            store.write(noise(n, "ng"))
        for n in range(6, 9):
            store.write(noise(n, "borderline"))
        for n in range(10, 60):
            store.write(noise(n, "invalid"))
            assert bytes_in(tmp_path) <= 130_000
    assert numbers(tmp_path, "ng") == [0, 1, 2, 3, 4, 5]
    assert numbers(tmp_path, "borderline") == [6, 7, 8]
    invalid = numbers(tmp_path, "invalid")
    assert invalid == list(range(60 - len(invalid), 60))
    assert len(invalid) >= 6


@settings(max_examples=60, deadline=None)
@given(
    quota=st.integers(12_000, 60_000),
    frames=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 40)), min_size=1, max_size=40),
    restarts=st.integers(1, 20),
)
def test_never_over_the_quota_and_no_kind_loses_to_a_larger_one(
    quota: int, frames: list[tuple[str, int]], restarts: int
) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = PictureStore(folder, ok_share=1, quota_bytes=quota)
        for n, (kind, height) in enumerate(frames):
            if n % restarts == 0:
                store.open()
            before = {kind: numbers(folder, kind) for kind in KINDS}
            store.write(noise(n, kind, height))
            after = {kind: numbers(folder, kind) for kind in KINDS}
            assert bytes_in(folder) <= quota
            assert after[kind][-1] == n
            counts = Counter({name: len(found) for name, found in after.items()})
            for name in KINDS:
                old = before[name] + [n] * (name == kind)
                assert after[name] == old[len(old) - counts[name] :]  # only the oldest have gone
                if counts[name] < len(old):  # before its last one went, no kind had more
                    assert counts[name] + 1 >= max(count for other, count in counts.items() if other != name)


def test_a_restart_goes_on_and_cleans_up(tmp_path: Path) -> None:
    with PictureStore(tmp_path) as store:
        for n in range(3):
            store.write(noise(n, "ng"))
    folder = tmp_path / "ng"
    stems = sorted(path.stem for path in folder.glob("*.png"))
    size = bytes_in(tmp_path) // 3
    unfinished = [f".{stems[0]}.png.77.tmp", f".{stems[0]}.json.77.tmp"]
    killed = "20260301T120000.000000Z-00000001-left-part1.png-NG.json"  # before its picture was written
    strangers = ["notes.txt", f"{stems[0]}_mask.png", "part.png", "part.json", ".hidden.png.1.tmp"]
    lonely = f"{stems[1].replace('part1', 'mine')}.png"  # of somebody who has copied it here
    for name in (*unfinished, killed, *strangers, lonely):
        (folder / name).write_bytes(bytes(10_000))
    (folder / f"{stems[2]}x-NG.png").mkdir()
    (folder / f"{stems[2]}y-NG.png").symlink_to(folder / "notes.txt")
    strangers += [lonely, f"{stems[2]}x-NG.png", f"{stems[2]}y-NG.png"]
    with PictureStore(tmp_path, quota_bytes=2 * size + 1000) as store:
        assert not any((folder / name).exists() for name in (*unfinished, killed))
        store.write(noise(3, "ng"))
    ours = sorted(path.name for path in folder.iterdir() if path.name not in strangers)
    assert [name.split("-")[1] for name in ours] == ["00000002", "00000002", "00000003", "00000003"]
    assert all((folder / name).exists() for name in strangers)


def test_the_same_result_once_more_counts_once(tmp_path: Path) -> None:
    frames = [noise(n, "ng") for n in (0, 1, 1, 1)]
    with PictureStore(tmp_path, quota_bytes=11_000) as store:
        for frame in frames:
            store.write(frame)
    assert numbers(tmp_path, "ng") == [0, 1]


def test_a_picture_over_the_quota_is_skipped_and_nothing_deleted_for_it(tmp_path: Path) -> None:
    with PictureStore(tmp_path, quota_bytes=10_000) as store:
        store.write(noise(0, "ng"))
        with pytest.raises(SinkError, match="quota of 10000"):
            store.write(noise(1, "ng", height=200))
    assert numbers(tmp_path, "ng") == [0]


def test_the_disk_never_gets_full(small_disk: Path) -> None:
    folder = small_disk / "kept"
    with PictureStore(folder, min_free_bytes=256 * 1024) as store:
        for n in range(100):
            store.write(noise(n, "invalid" if n % 2 else "ng"))
        ng, invalid = numbers(folder, "ng"), numbers(folder, "invalid")
        assert 3 < len(ng) < 50
        assert abs(len(ng) - len(invalid)) <= 1
        assert (ng[-1], invalid[-1]) == (98, 99)


def test_a_full_disk_loses_a_picture_with_its_record_and_is_over_when_there_is_room(small_disk: Path) -> None:
    folder = small_disk / "kept"
    with PictureStore(folder) as store:
        store.write(noise(0, "ng"))
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "more").write_bytes(bytes(room - 8192))  # for the record, not for the picture
        for _ in range(3):
            with pytest.raises(SinkError, match="No space left"):
                store.write(noise(1, "ng", height=100))
            assert numbers(folder, "ng") == [0]
        (small_disk / "more").unlink()
        store.write(noise(1, "ng", height=100))
    assert numbers(folder, "ng") == [0, 1]


def test_a_line_with_a_full_disk_goes_on_and_counts_what_is_lost(small_disk: Path) -> None:
    store = PictureStore(small_disk / "kept", ok_share=0)
    with worker(store, wait=False, capacity=2) as running:
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "more").write_bytes(bytes(room - 4096))
        for n in range(10):
            running.submit(noise(n, "ng", height=100))
            running.submit(result(n))  # an OK that is not kept takes no place in the queue
        until(lambda: running.snapshot().error is not None)
        assert "No space left" in (running.snapshot().error or "")
        assert running.snapshot().lost >= 7
        (small_disk / "more").unlink()
        until(lambda: running.snapshot().waiting == 0 and running.snapshot().error is None)
        assert running.snapshot().written == len(numbers(small_disk / "kept", "ng")) == 10 - running.snapshot().lost


@pytest.mark.parametrize("inside", [".", "kept", "ng", "a/b", "link"])
def test_pictures_in_a_source_folder_are_refused(tmp_path: Path, inside: str) -> None:
    source = tmp_path / "parts"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    folder = tmp_path / "link" / "kept" if inside == "link" else source / inside
    with pytest.raises(ConfigError, match="where the images come from"):
        PictureStore(folder, [source])
    assert list(source.iterdir()) == []


def test_a_source_that_reads_what_is_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ng lies in .* where the images come from"):
        PictureStore(tmp_path, [tmp_path / "ng"])


def test_overlays_among_the_pictures_share_a_folder(tmp_path: Path) -> None:
    """The line refuses two sinks that do: each would delete the other's files."""
    for folder in (tmp_path, *(tmp_path / kind for kind in KINDS)):
        assert set(OverlaySink(folder).exclusive) & set(PictureStore(tmp_path).exclusive)


@pytest.mark.parametrize(
    "options",
    [
        {"ok_share": -0.1},
        {"ok_share": 1.1},
        {"ok_share": float("nan")},
        {"margin": -1},
        {"margin": float("nan")},
        {"quota_bytes": 0},
        {"min_free_bytes": -1},
    ],
)
def test_options_that_can_not_work(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PictureStore(tmp_path, **options)


def test_a_folder_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "ng").write_text("")
    with pytest.raises(SinkError, match="can't be used"):
        PictureStore(tmp_path).open()
    store = PictureStore(tmp_path / "gone")
    store.open()
    for kind in KINDS:
        (tmp_path / "gone" / kind).rmdir()
    (tmp_path / "gone" / "ng").write_text("a file now")
    with pytest.raises(SinkError, match="can't be written"):
        store.write(noise(0, "ng"))


def test_a_kept_folder_is_a_data_folder(tmp_path: Path) -> None:
    with PictureStore(tmp_path, ok_share=1) as store:
        for n, kind in enumerate(["ok", "ok", "ok", "ng", "ng"]):
            store.write(noise(n, kind))
    data = load_dataset(good=tmp_path / "ok", defect=tmp_path / "ng")
    assert len(data.train) + sum(sample.defect is None for sample in data.test) == 3
    assert sum(sample.defect is not None for sample in data.test) == 2
