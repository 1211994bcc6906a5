"""Nothing is lost, nothing is there twice, and nothing of another model gets in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simplenet_edge.archive.pictures import Picture
from simplenet_edge.archive.results import Model, Results, scored_schema
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.progress import ignore_message
from tests.archive.pictures import rows_of

MODEL = Model("0123456789ab", "fp32", 1.5)
PICTURES = [Picture(f"/a/{i:04d}.png", b"", None, 10 + i, 1000 * i) for i in range(10)]


def rows(pictures: list[Picture], score: float | None = 1.0, error: str | None = None) -> pa.Table:
    found = [
        {
            "path": one.path,
            "bytes": one.bytes,
            "mtime": one.mtime_us,
            "width": 4,
            "height": 3,
            "error": error,
            "score": score,
        }
        for one in pictures
    ]
    return pa.Table.from_pylist(found, schema=scored_schema([MODEL]))


def interrupted(path: Path, *parts: pa.Table) -> Path:
    """What a run leaves that is killed after it wrote some parts; their folder."""
    with Results(path, [MODEL], ignore_message) as results:
        for part in parts:
            results.add(part)
    return path.with_name(f"{path.name}.parts")


def test_parts_become_one_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    parts = interrupted(path, rows(PICTURES[5:8], 2.0), rows(PICTURES[:2]))
    assert not path.exists()
    with Results(path, [MODEL], ignore_message) as results:
        assert results.want([*PICTURES, *PICTURES[:3]]) == 5
        assert [one.path for one in results.todo(0, 2)] == ["/a/0002.png", "/a/0003.png"]
        assert [one.path for one in results.todo(4, 9)] == ["/a/0009.png"]
        results.add(rows(results.todo(0, 9), None, "damaged"))
        results.merge()
        assert results.errors(2) == [("/a/0002.png", "damaged"), ("/a/0003.png", "damaged")]
    found = rows_of(path)
    assert [found[one.path]["verdict"] for one in PICTURES] == ["OK", "OK", *[None] * 3, *["NG"] * 3, None, None]
    assert found["/a/0005.png"]["bundle_id"] == MODEL.bundle_id
    assert (found["/a/0005.png"]["threshold"], found["/a/0005.png"]["precision"]) == (1.5, "fp32")
    assert found["/a/0005.png"]["mtime"].microsecond == 5000
    assert not parts.exists()


def test_the_threshold_itself_is_ok(tmp_path: Path) -> None:
    with Results(tmp_path / "s.parquet", [MODEL], ignore_message) as results:
        results.add(rows(PICTURES[:1], MODEL.threshold))
        results.merge()
    assert rows_of(tmp_path / "s.parquet")["/a/0000.png"]["verdict"] == "OK"


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "name"])
def test_a_damaged_part_is_done_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.parquet"
    folder = interrupted(path, rows(PICTURES[:4]), rows(PICTURES[4:6]))
    part = sorted(folder.glob("*.parquet"))[0]
    data = bytearray(part.read_bytes())
    if damage == "name":
        part.rename(folder / "part.parquet")
    else:
        data[200] ^= 1
        part.write_bytes(bytes({"cut": data[:-7], "bit": data, "empty": bytearray()}[damage]))
    said: list[str] = []
    with Results(path, [MODEL], said.append) as results:
        assert results.want(PICTURES) == 8
        assert "damaged; what it held is done again" in said[0]
        results.add(rows(results.todo(0, 9)))
        results.merge()
    assert len(rows_of(path)) == 10


def test_what_is_new_changed_or_failed_is_done_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with Results(path, [MODEL], ignore_message) as results:
        results.add(rows(PICTURES[:4]))
        results.add(rows(PICTURES[4:5], None, "can't be read"))
        results.merge()
    changed = dataclasses.replace(PICTURES[0], mtime_us=77)
    larger = dataclasses.replace(PICTURES[1], bytes=99)
    with Results(path, [MODEL], ignore_message) as results:
        assert results.want([changed, larger, *PICTURES[2:6]]) == 4
        assert [one.path[-5] for one in results.todo(0, 9)] == ["0", "1", "4", "5"]
        results.add(rows([changed], 3.0))
        results.add(rows([larger, *PICTURES[4:6]]))
        results.merge()
    found = rows_of(path)
    assert len(found) == 6
    assert (found["/a/0000.png"]["score"], found["/a/0001.png"]["bytes"]) == (3.0, 99)
    assert found["/a/0004.png"]["error"] is None


def test_nothing_new_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    for _ in range(2):
        with Results(path, [MODEL], ignore_message) as results:
            if results.want(PICTURES):
                results.add(rows(PICTURES))
            results.merge()
        assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize(
    "other",
    [
        Model("ba9876543210", "fp32", 1.5),
        Model("0123456789ab", "int8", 1.5),
        Model("0123456789ab", "fp32", 1.6),
        Model("0123456789ab", "fp32", 1.5, "old_"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_models_are_refused(tmp_path: Path, other: Model, finished: bool) -> None:
    path = tmp_path / "scores.parquet"
    with Results(path, [MODEL], ignore_message) as results:
        results.add(rows(PICTURES))
        if finished:
            results.merge()
    with pytest.raises(ConfigError, match="holds results of 0123456789ab in fp32"), Results(path, [other], print):
        pass
    with Results(path, [MODEL], ignore_message) as results:
        assert results.want(PICTURES) == 0


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"path": ["a"]}), path)
    with pytest.raises(ConfigError, match="not a result of this command"), Results(path, [MODEL], print):
        pass
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="can't be read"), Results(path, [MODEL], print):
        pass
    assert path.read_bytes() == b"PAR1 but no more"
    with pytest.raises(ConfigError, match="is a folder"), Results(tmp_path, [MODEL], print):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with (
        Results(path, [MODEL], ignore_message),
        pytest.raises(ConfigError, match="another process"),
        Results(path, [MODEL], ignore_message),
    ):
        pass
