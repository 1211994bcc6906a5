from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.overlay import overlay
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.sinks import FrameResult, JsonlSink, OverlaySink
from simplenet_edge.runtime.sources import FrameRecord
from tests.bundles import THRESHOLD, even_frames, with_spot

WHEN = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone.utc)
NORMAL_LEVEL = 15.0


@pytest.fixture
def ok(bundle: Bundle) -> FrameResult:
    return inspected(bundle, spot=False)


@pytest.fixture
def ng(bundle: Bundle) -> FrameResult:
    return inspected(bundle, spot=True)


@pytest.fixture
def invalid(bundle: Bundle) -> FrameResult:
    record = FrameRecord(9, "part9.jpg", WHEN, None, "not an image")
    return FrameResult(record, bundle.id, THRESHOLD, None, "not an image")


def inspected(bundle: Bundle, spot: bool, name: str = "part7.png") -> FrameResult:
    image = (with_spot(even_frames(1)) if spot else even_frames(1))[0]
    with open_engine(bundle) as engine:
        verdict = Detector(engine).inspect(image)
    return FrameResult(FrameRecord(7, name, WHEN, image), bundle.id, THRESHOLD, verdict)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_all_there_is_to_know(tmp_path: Path, bundle: Bundle, ng: FrameResult) -> None:
    path = tmp_path / "new" / "line.jsonl"
    with JsonlSink(path) as sink:
        sink.write(ng)
    (line,) = lines_of(path)
    assert ng.inspection is not None
    assert line == {
        "frame_id": 7,
        "name": "part7.png",
        "wall_time": "2026-03-01T12:30:15.123+00:00",
        "verdict": "NG",
        "score": ng.inspection.score,
        "threshold": THRESHOLD,
        "reason": None,
        "preprocess_ms": ng.inspection.times.preprocess_ms,
        "infer_ms": ng.inspection.times.infer_ms,
        "post_ms": ng.inspection.times.post_ms,
        "bundle_id": bundle.id,
    }


def test_an_invalid_line_has_the_same_keys_and_a_reason(tmp_path: Path, ok: FrameResult, invalid: FrameResult) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as sink:
        sink.write(ok)
        sink.write(invalid)
    first, second = lines_of(path)
    assert list(first) == list(second)
    assert (second["verdict"], second["score"], second["reason"]) == ("INVALID", None, "not an image")


def test_a_result_is_either_inspected_or_has_a_reason(bundle: Bundle, ok: FrameResult) -> None:
    with pytest.raises(AssertionError):
        FrameResult(ok.record, bundle.id, THRESHOLD, None, None)
    with pytest.raises(AssertionError):
        FrameResult(ok.record, bundle.id, THRESHOLD, ok.inspection, "but why")


def test_each_line_is_on_disk_when_write_returns(tmp_path: Path, ok: FrameResult) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as sink:
        for count in (1, 2, 3):
            sink.write(ok)
            assert len(lines_of(path)) == count


def test_appends_and_ends_a_line_that_a_power_cut_left_half_written(tmp_path: Path, ok: FrameResult) -> None:
    path = tmp_path / "line.jsonl"
    path.write_text('{"frame_id": 1}\n{"frame_')
    for _ in range(2):
        with JsonlSink(path) as sink:
            sink.write(ok)
    whole, half, *new = path.read_text().splitlines()
    assert (whole, half) == ('{"frame_id": 1}', '{"frame_')
    assert [json.loads(line)["name"] for line in new] == ["part7.png", "part7.png"]


def test_standard_output_stays_open(capsys: pytest.CaptureFixture[str], ok: FrameResult) -> None:
    with JsonlSink(None) as sink:
        sink.write(ok)
    sys.stdout.write("still open")
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["verdict"] == "OK"
    assert second == "still open"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clean_error(ok: FrameResult) -> None:
    with (
        pytest.raises(ConfigError, match=r"/dev/full can't be written \(No space left"),
        JsonlSink(Path("/dev/full")) as sink,
    ):
        sink.write(ok)


def test_json_lines_that_can_not_be_opened(tmp_path: Path, ok: FrameResult) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "line.jsonl"):
        with pytest.raises(ConfigError, match="can't be written"):
            JsonlSink(path).open()
    with pytest.raises(ConfigError, match="not open"):
        JsonlSink(tmp_path / "line.jsonl").write(ok)


@pytest.mark.parametrize(("only", "verdicts"), [("ng", ["NG"]), ("all", ["NG", "OK"])])
def test_overlays_of_what_is_asked_for(
    tmp_path: Path, ok: FrameResult, ng: FrameResult, invalid: FrameResult, only: str, verdicts: list[str]
) -> None:
    folder = tmp_path / "new" / "overlays"
    with OverlaySink(folder, NORMAL_LEVEL, only) as sink:  # type: ignore[arg-type]
        for result in (ok, ng, invalid):
            sink.write(result)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"20260301T123015.123456Z-00000007-part7.png-{verdict}.png" for verdict in verdicts
    ]


def test_an_overlay_is_the_frame_with_its_map(tmp_path: Path, ng: FrameResult) -> None:
    with OverlaySink(tmp_path, NORMAL_LEVEL) as sink:
        sink.write(ng)
    (path,) = tmp_path.iterdir()
    assert ng.inspection is not None
    expected = overlay(ng.inspection.frame, ng.inspection.map, THRESHOLD, NORMAL_LEVEL)
    np.testing.assert_array_equal(cv2.imread(str(path)), expected)


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
def test_any_name_becomes_one_safe_file_inside_the_folder(tmp_path: Path, bundle: Bundle, name: str) -> None:
    folder = tmp_path / "overlays"
    with OverlaySink(folder, NORMAL_LEVEL) as sink:
        sink.write(inspected(bundle, spot=True, name=name))
    (path,) = folder.iterdir()
    assert path.name.isascii()
    assert path.name.isprintable()
    assert [child.name for child in tmp_path.iterdir()] == ["overlays"]


def test_names_that_become_alike_do_not_collide(tmp_path: Path, bundle: Bundle, ng: FrameResult) -> None:
    names = ["a b.png", "a_b.png", "a/b.png"]
    with OverlaySink(tmp_path, NORMAL_LEVEL) as sink:
        for frame_id, name in enumerate(names):
            record = FrameRecord(frame_id, name, WHEN, ng.record.image)
            sink.write(FrameResult(record, bundle.id, THRESHOLD, ng.inspection))
    assert len(list(tmp_path.iterdir())) == len(names)


@pytest.mark.parametrize("inside", [".", "overlays", "a/b", "../parts/overlays"])
def test_overlays_in_the_source_folder_are_refused(tmp_path: Path, inside: str) -> None:
    source = tmp_path / "parts"
    source.mkdir()
    with pytest.raises(ConfigError, match="where the images come from"):
        OverlaySink(source / inside, NORMAL_LEVEL, source_folder=source)
    assert list(source.iterdir()) == []


def test_overlays_in_the_source_folder_through_a_link_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "parts"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(ConfigError, match="where the images come from"):
        OverlaySink(tmp_path / "link" / "overlays", NORMAL_LEVEL, source_folder=source)


def test_overlays_beside_the_source_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    OverlaySink(tmp_path / "parts-overlays", NORMAL_LEVEL, source_folder=tmp_path / "parts").open()
    assert (tmp_path / "parts-overlays").is_dir()


def test_overlays_that_can_not_be_written(tmp_path: Path, ng: FrameResult) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be created"):
        OverlaySink(tmp_path / "file", NORMAL_LEVEL).open()
    with pytest.raises(ConfigError, match="'ng' or 'all'"):
        OverlaySink(tmp_path, NORMAL_LEVEL, "none")  # type: ignore[arg-type]
    sink = OverlaySink(tmp_path / "gone", NORMAL_LEVEL)
    sink.open()
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_text("a file now")
    with pytest.raises(ConfigError, match="can't be written"):
        sink.write(ng)


def test_an_overlay_that_can_not_be_finished_leaves_nothing(
    tmp_path: Path, ng: FrameResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with OverlaySink(tmp_path, NORMAL_LEVEL) as sink, pytest.raises(ConfigError, match="No space left"):
        sink.write(ng)
    assert list(tmp_path.iterdir()) == []
