from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.overlay import overlay
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.regions import Region
from simplenet_edge.runtime.sinks import OverlaySink
from simplenet_edge.runtime.sources.base import View
from tests.bundles import HEIGHT, THRESHOLD, WIDTH, even_frames, with_spot
from tests.runtime.sinks.results import NORMAL_LEVEL, WHEN, result

NG_SIZE = len(
    cv2.imencode(".png", overlay(with_spot(even_frames(1))[0], np.zeros((HEIGHT, WIDTH), np.float32), 60, 15))[1]
)


def named(name: str) -> FrameResult:
    ng = result(7, "NG")
    return dataclasses.replace(ng, record=dataclasses.replace(ng.record, name=name))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("only", "verdicts"), [("ng", ["2-part2.png-NG"]), ("all", ["1-part1.png-OK", "2-part2.png-NG"])]
)
def test_overlays_of_what_is_asked_for(tmp_path: Path, only: str, verdicts: list[str]) -> None:
    folder = tmp_path / "new" / "overlays"
    with OverlaySink(folder, only) as sink:  # type: ignore[arg-type]
        for given in (result(1), result(2, "NG"), result(3, "INVALID")):
            sink.write(given)
    assert names_in(folder) == [f"20260301T12301{5 + int(v[0])}.123456Z-0000000{v}.png" for v in verdicts]


def test_an_overlay_is_the_frame_with_its_map(tmp_path: Path, bundle: Bundle) -> None:
    image = with_spot(even_frames(1))[0]
    with open_engine(bundle) as engine:
        detection = Detector(engine).inspect(image)
    with OverlaySink(tmp_path) as sink:
        sink.write(FrameResult(FrameRecord(7, "part7.png", WHEN, image), bundle.id, THRESHOLD, detection))
    (path,) = tmp_path.iterdir()
    expected = overlay(detection.frame, detection.map, THRESHOLD, NORMAL_LEVEL)
    np.testing.assert_array_equal(cv2.imread(str(path)), expected)


@pytest.mark.parametrize("xywh", [None, (30, 40, 2 * WIDTH, 2 * HEIGHT)], ids=["whole", "cropped"])
def test_boxes_lie_around_the_regions(tmp_path: Path, xywh: tuple[int, int, int, int] | None) -> None:
    left, top = (0, 0) if xywh is None else xywh[:2]
    region = Region(left + 40, top + 20, 8, 8, 64, 130.0)  # the spot, at (20, 10) of the model frame
    ng = result(7, "NG", regions=(region,))
    size_hw = (2 * HEIGHT, 2 * WIDTH) if xywh is None else (200, 300)
    record = dataclasses.replace(ng.record, image=np.zeros((*size_hw, 3), np.uint8))
    ng = dataclasses.replace(ng, record=View(xywh).crop(record))
    with OverlaySink(tmp_path) as sink:
        sink.write(ng)
    (path,) = tmp_path.iterdir()
    drawn = read_image(path)
    assert ng.detection is not None
    plain = overlay(ng.detection.frame, ng.detection.map, THRESHOLD, NORMAL_LEVEL)
    changed = np.argwhere((drawn != plain).any(axis=2))
    assert changed.min(axis=0).tolist() == [9, 19]
    assert changed.max(axis=0).tolist() == [14, 24]
    np.testing.assert_array_equal(drawn[10:14, 20:24], plain[10:14, 20:24])


def test_jpeg_where_asked(tmp_path: Path) -> None:
    with OverlaySink(tmp_path, image_format="jpg") as sink:
        sink.write(result(0, "NG"))
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".jpg"
    assert path.read_bytes().startswith(b"\xff\xd8")


def test_the_oldest_are_deleted_beyond_the_quota(tmp_path: Path) -> None:
    others = ["note.txt", "20260301T123015.123456Z-00000001-mine.png", "part.png"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(100_000))
    half_written = ".20260301T123015.123456Z-00000001-part1.png-NG.png.77.tmp"
    (tmp_path / half_written).write_bytes(b"a run was killed here")
    for start in (0, 5):  # a restart counts what the run before left
        with OverlaySink(tmp_path, quota_bytes=3 * NG_SIZE + 10) as sink:
            for n in range(start, start + 5):
                sink.write(result(n, "NG"))
                written = [path for path in tmp_path.iterdir() if path.name not in others]
                assert sum(path.stat().st_size for path in written) <= 3 * NG_SIZE + 10
    kept = [name.split("-")[1] for name in names_in(tmp_path) if name not in others]
    assert kept == ["00000007", "00000008", "00000009"]
    assert set(others) < set(names_in(tmp_path))


def test_the_same_image_once_more_counts_once(tmp_path: Path) -> None:
    with OverlaySink(tmp_path, quota_bytes=2 * NG_SIZE) as sink:
        for n in (0, 1, 1, 1):
            sink.write(result(n, "NG"))
    assert len(names_in(tmp_path)) == 2


def test_an_image_over_the_quota_is_skipped_and_nothing_deleted_for_it(tmp_path: Path) -> None:
    with OverlaySink(tmp_path) as sink:
        sink.write(result(0, "NG"))
    with OverlaySink(tmp_path, quota_bytes=50) as sink, pytest.raises(SinkError, match="quota of 50"):
        sink.write(result(1, "NG"))
    assert len(names_in(tmp_path)) == 1


def test_the_disk_never_gets_full(small_disk: Path) -> None:
    folder = small_disk / "overlays"
    with OverlaySink(folder, min_free_bytes=400 * 1024) as sink:
        for n in range(60):
            sink.write(result(n, "NG"))
        kept = names_in(folder)
        assert 3 < len(kept) < 60
        assert kept[-1].split("-")[1] == "00000059"
        (small_disk / "more ballast").write_bytes(bytes(300 * 1024))  # another program takes it all
        with pytest.raises(SinkError, match="are to stay free"):
            sink.write(result(60, "NG"))
        (small_disk / "more ballast").unlink()
        sink.write(result(61, "NG"))
    assert names_in(folder)[-1].split("-")[1] == "00000061"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "teil größe 1.png",
        "day1/part\n2.png",
        "..",
        "x" * 300,
        "nul\0.png",
        ".hidden",
    ],
)
def test_any_name_becomes_one_safe_file_inside_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "overlays"
    with OverlaySink(folder, quota_bytes=NG_SIZE) as sink:
        sink.write(named(name))
        (path,) = folder.iterdir()
        assert path.name.isascii()
        assert path.name.isprintable()
        assert names_in(tmp_path) == ["overlays"]
        sink.write(result(9, "NG"))
    assert not path.exists()  # it was known as one of its own


def test_names_that_become_alike_do_not_collide(tmp_path: Path) -> None:
    names = ["a b.png", "a_b.png", "a/b.png"]
    with OverlaySink(tmp_path) as sink:
        for frame_id, name in enumerate(names):
            ng = named(name)
            sink.write(dataclasses.replace(ng, record=dataclasses.replace(ng.record, frame_id=frame_id)))
    assert len(names_in(tmp_path)) == len(names)


@pytest.mark.parametrize("inside", [".", "overlays", "a/b", "../parts/overlays"])
def test_overlays_in_the_source_folder_are_refused(tmp_path: Path, inside: str) -> None:
    source = tmp_path / "parts"
    source.mkdir()
    with pytest.raises(ConfigError, match="where the images come from"):
        OverlaySink(source / inside, source_folders=[source])
    assert list(source.iterdir()) == []


def test_overlays_in_the_source_folder_through_a_link_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "parts"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(ConfigError, match="where the images come from"):
        OverlaySink(tmp_path / "link" / "overlays", source_folders=[source])


def test_overlays_beside_the_source_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    OverlaySink(tmp_path / "parts-overlays", source_folders=[tmp_path / "parts"]).open()
    assert (tmp_path / "parts-overlays").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "none"}, "'ng' or 'all'"),
        ({"image_format": "gif"}, "'png' or 'jpg'"),
        ({"quota_bytes": 0}, "quota_bytes must"),
        ({"min_free_bytes": -1}, "min_free_bytes at least 0"),
    ],
)
def test_options_that_can_not_work(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OverlaySink(tmp_path, **options)  # type: ignore[arg-type]


def test_overlays_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="can't be used"):
        OverlaySink(tmp_path / "file").open()
    sink = OverlaySink(tmp_path / "gone")
    sink.open()
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_text("a file now")
    with pytest.raises(SinkError, match="can't be written"):
        sink.write(result(0, "NG"))


def test_an_overlay_that_can_not_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with OverlaySink(tmp_path) as sink, pytest.raises(SinkError, match="No space left"):
        sink.write(result(0, "NG"))
    assert list(tmp_path.iterdir()) == []
