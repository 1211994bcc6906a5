from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.regions import Region
from simplenet_edge.runtime.sinks import JsonlSink
from tests.bundles import THRESHOLD
from tests.runtime.sinks.results import result
from tests.waiting import until


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids_of(path: Path) -> list[object]:
    return [line["frame_id"] for line in lines_of(path)]


def test_a_line_holds_all_there_is_to_know(tmp_path: Path) -> None:
    path = tmp_path / "new" / "line.jsonl"
    region = Region(1, 2, 3, 4, 12, 130.0)
    given = result(7, "NG", regions=(region,), part_id="SN7")
    with JsonlSink(path) as sink:
        sink.write(given)
    (line,) = lines_of(path)
    assert line == {
        "camera": "left",
        "frame_id": 7,
        "name": "part7.png",
        "part_id": "SN7",
        "recipe": None,
        "wall_time": "2026-03-01T12:30:22.123+00:00",
        "monotonic_s": round(given.record.monotonic_s, 6),
        "verdict": "NG",
        "score": 107.0,
        "threshold": THRESHOLD,
        "cause": None,
        "reason": None,
        "area_px": 12,
        "regions": [region.to_dict()],
        "dropped": 0,
        "camera_frame_id": None,
        "camera_time_ns": None,
        "preprocess_ms": 1.0,
        "infer_ms": 2.0,
        "post_ms": 3.0,
        "latency_ms": None,
        "bundle_id": "abc",
    }


def test_an_invalid_line_has_the_same_keys_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as sink:
        sink.write(result(0))
        sink.write(result(1, "INVALID"))
    first, second = lines_of(path)
    assert list(first) == list(second)
    assert (second["verdict"], second["score"], second["cause"]) == ("INVALID", None, "source")
    assert second["reason"] == "no image"


def test_a_result_is_either_inspected_or_has_a_reason() -> None:
    ok = result(0)
    with pytest.raises(AssertionError):
        FrameResult(ok.record, "abc", THRESHOLD, None)
    with pytest.raises(AssertionError):
        FrameResult(ok.record, "abc", THRESHOLD, ok.detection, reason="but why")


def test_each_line_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as sink:
        for count in (1, 2, 3):
            sink.write(result(count))
            assert len(lines_of(path)) == count


@pytest.mark.parametrize("tail", [b'{"frame_', b"\0\0\0\0"], ids=["half", "zeros"])
def test_appends_and_ends_a_line_that_a_power_cut_left_half_written(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "line.jsonl"
    path.write_bytes(b'{"frame_id": 1}\n' + tail)
    for n in (2, 3):
        with JsonlSink(path) as sink:
            sink.write(result(n))
    whole, half, *new = path.read_bytes().splitlines()
    assert (whole, half) == (b'{"frame_id": 1}', tail)
    assert [json.loads(line)["frame_id"] for line in new] == [2, 3]


def test_rotates_before_a_file_grows_too_large(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    length = len(json.dumps(result(0).to_dict())) + 40
    for start in (0, 20):  # a restart goes on where the run before ended
        with JsonlSink(path, rotate_bytes=3 * length, keep=2) as sink:
            for n in range(start, start + 20):
                sink.write(result(n))
                assert path.stat().st_size <= 3 * length
    files = [tmp_path / "line.jsonl.2", tmp_path / "line.jsonl.1", path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    kept = [frame_id for file in files for frame_id in ids_of(file)]
    assert kept == list(range(40 - len(kept), 40))
    assert len(ids_of(files[0])) == len(ids_of(files[1])) == 3


def test_a_line_longer_than_a_file_may_be_is_written_all_the_same(tmp_path: Path) -> None:
    with JsonlSink(tmp_path / "line.jsonl", rotate_bytes=1, keep=9) as sink:
        for n in range(3):
            sink.write(result(n))
    assert [ids_of(path) for path in sorted(tmp_path.iterdir())] == [[2], [1], [0]]


@pytest.mark.parametrize(
    ("fsync_s", "synced_after_write", "synced_after_close"),
    [(None, 0, 0), (0, 3, 3), (3600, 0, 1)],  # by the system; each line; the file before it is closed
)
def test_syncs_as_often_as_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fsync_s: float | None,
    synced_after_write: int,
    synced_after_close: int,
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with JsonlSink(tmp_path / "line.jsonl", fsync_s=fsync_s) as sink:
        for n in range(3):
            sink.write(result(n))
        assert len(synced) == synced_after_write
    assert len(synced) == synced_after_close


def test_what_was_written_last_is_synced_while_no_more_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with JsonlSink(tmp_path / "line.jsonl", fsync_s=0.05) as sink:
        sink.write(result(0))

        def is_synced() -> bool:
            assert not sink.idle()
            return bool(synced)

        until(is_synced)
        sink.idle()
        assert len(synced) == 1


KILLED = """
import sys
from pathlib import Path
from simplenet_edge.runtime.sinks import JsonlSink
from tests.runtime.sinks.results import result
with JsonlSink(Path(sys.argv[1]), rotate_bytes=50_000, keep=1000) as sink:
    for n in range(10**9):
        sink.write(result(n))
        print(n, flush=True)
"""


def test_a_killed_run_leaves_every_line_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) == 500:
                break
        run.send_signal(signal.SIGKILL)
        last = max([500, *(int(line) for line in run.stdout if line.endswith("\n"))])
    with JsonlSink(path) as sink:
        sink.write(result(10**6))
    numbered = sorted(tmp_path.glob("line.jsonl.*"), key=lambda file: -int(file.suffix[1:]))
    assert len(numbered) > 2
    text = "".join(file.read_text() for file in [*numbered, path])
    *ids, after = [json.loads(line)["frame_id"] for line in text.splitlines()]
    assert ids == list(range(len(ids)))
    assert len(ids) > last
    assert after == 10**6


def test_standard_output_stays_open(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonlSink(None) as sink:
        sink.write(result(0))
    sys.stdout.write("still open")
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["verdict"] == "OK"
    assert second == "still open"


PIPED = """
from simplenet_edge.errors import SinkError
from simplenet_edge.runtime.sinks import JsonlSink
from tests.runtime.sinks.results import result
import sys
input()
for _ in range(2):  # it stays closed
    with JsonlSink(None) as sink:
        for _ in range(2):
            try:
                sink.write(result(0))
            except SinkError as error:
                print(error, file=sys.stderr)
"""


def test_a_closed_pipe_is_one_clean_error() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PIPED], text=True, **pipes) as run:  # type: ignore[call-overload]
        run.stdout.close()
        run.stdin.write("go\n")
        run.stdin.close()
        errors = run.stderr.read().splitlines()
    assert set(errors) == {"standard output was closed by the program that read it; keep that running"}
    assert run.returncode == 0


def test_standard_output_that_is_closed_from_the_start_is_one_clean_error() -> None:
    code = (
        "from simplenet_edge.runtime.sinks import JsonlSink\nfrom simplenet_edge.errors import SinkError\nimport sys\n"
        "try: JsonlSink(None).open()\nexcept SinkError as error: sys.stderr.write(str(error))"
    )
    closed = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], capture_output=True, text=True)
    assert closed.stderr == "standard output is closed; open it, or name a file: --jsonl FILE"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clean_error() -> None:
    with (
        JsonlSink(Path("/dev/full")) as sink,
        pytest.raises(SinkError, match=r"/dev/full can't be written \(No space left"),
    ):
        sink.write(result(0))


def test_a_disk_that_fills_up_keeps_whole_lines_and_goes_on(small_disk: Path) -> None:
    path = small_disk / "line.jsonl"
    written = []
    with JsonlSink(path) as sink:

        def fill() -> None:
            for n in range(10**6):
                sink.write(result(n))
                written.append(n)

        with pytest.raises(SinkError, match="No space left"):
            fill()
        assert ids_of(path) == written
        (small_disk / "ballast").unlink()
        sink.write(result(5))
    assert ids_of(path) == [*written, 5]


def test_lines_of_another_writer_survive_a_full_disk(small_disk: Path) -> None:
    """Another program appends to the same file, without our lock, before, while and after the disk is full."""
    path = small_disk / "line.jsonl"
    written: list[int] = []
    with JsonlSink(path) as sink, path.open("ab", buffering=0) as other:

        def fill() -> None:
            for n in range(10**6):
                sink.write(result(n))
                written.append(n)
                if n < 50:
                    other.write(b'{"frame_id": "other"}\n')

        with pytest.raises(SinkError, match="No space left"):
            fill()
        (small_disk / "ballast").unlink()
        other.write(b'{"frame_id": "other"}\n')
        sink.write(result(5))
    found = ids_of(path)
    assert found.count("other") == 51
    assert [frame_id for frame_id in found if frame_id != "other"] == [*written, 5]


@pytest.mark.parametrize("rotate_bytes", [None, 10**6])
@pytest.mark.parametrize("how", ["copytruncate", "rename", "delete"])
def test_what_logrotate_does_loses_no_line(tmp_path: Path, how: str, rotate_bytes: int | None) -> None:
    path, old = tmp_path / "line.jsonl", tmp_path / "old"
    with JsonlSink(path, rotate_bytes=rotate_bytes) as sink:
        for n in range(3):
            sink.write(result(n))
        if how == "copytruncate":
            old.write_bytes(path.read_bytes())
            os.truncate(path, 0)
        elif how == "rename":
            path.rename(old)
        else:
            path.unlink()
        for n in range(3, 6):
            sink.write(result(n))
    assert ids_of(path) == [3, 4, 5]
    assert how == "delete" or ids_of(old) == [0, 1, 2]


def test_one_program_writes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with JsonlSink(path) as first:
        first.write(result(1))
        second = JsonlSink(tmp_path / "." / "line.jsonl")
        with pytest.raises(SinkError, match="written by another program"):
            second.open()
        assert set(first.exclusive) == set(second.exclusive)  # a line refuses both at once
        first.write(result(2))
    with second:
        second.write(result(3))
    assert ids_of(path) == [1, 2, 3]


def test_json_lines_that_can_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "line.jsonl"):
        with pytest.raises(SinkError, match="can't be written"):
            JsonlSink(path).open()
    with pytest.raises(SinkError, match="not open"):
        JsonlSink(tmp_path / "line.jsonl").write(result(0))


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("line.jsonl", {"rotate_bytes": 0}, "rotate_bytes must be at least 1"),
        ("line.jsonl", {"keep": 0}, "keep must be at least 1"),
        ("line.jsonl", {"fsync_s": -1}, "fsync_s must be"),
        ("line.jsonl", {"fsync_s": float("nan")}, "fsync_s must be"),
        (None, {"rotate_bytes": 5}, "standard output can't be"),
        (None, {"fsync_s": 0}, "standard output can't be"),
    ],
)
def test_options_that_can_not_work(path: str | None, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JsonlSink(path and Path(path), **options)  # type: ignore[arg-type]


def test_where_old_files_can_not_be_renamed_the_lines_go_on_and_the_fault_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, blocker = tmp_path / "line.jsonl", tmp_path / "line.jsonl.2"
    blocker.mkdir()
    (blocker / "somebody's").touch()
    with JsonlSink(path, rotate_bytes=1, keep=2) as sink:
        for n in range(5):
            sink.write(result(n))
        texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("line.jsonl.1", "line.jsonl")]
        assert [json.loads(line)["frame_id"] for line in "".join(texts).splitlines()] == [0, 1, 2, 3, 4]
        assert "line.jsonl.2" in (sink.fault or "")
        blocker.rename(tmp_path / "elsewhere")
        sink.write(result(5))
        assert sink.fault is None
    assert json.loads(path.read_text(encoding="utf-8"))["frame_id"] == 5
    assert [text.split(": ")[0] for text in caplog.messages] == [
        f"{path} grows on, it can't be rotated",
        f"{path} is rotated again",
    ]
