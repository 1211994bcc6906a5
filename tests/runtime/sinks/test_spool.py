from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.runtime.sinks import Spool

LEAST = 64 * 1024


def line(n: int, width: int = 0) -> str:
    return json.dumps({"n": n, "pad": "x" * width})


def drain(spool: Spool, most: int = 7) -> list[int]:
    got: list[int] = []
    while lines := spool.peek(most):
        got += [json.loads(text)["n"] for text in lines]
        spool.commit(len(lines))
    return got


def opened(folder: Path, max_bytes: int = LEAST) -> Spool:
    spool = Spool(folder, max_bytes)
    spool.open()
    return spool


def put(spool: Spool, numbers: range, width: int = 0) -> None:
    for n in numbers:
        spool.append(line(n, width))


def test_gives_back_what_it_got_in_order(tmp_path: Path) -> None:
    spool = opened(tmp_path / "new" / "spool")
    assert spool.peek(5) == []
    put(spool, range(20))
    assert len(spool) == 20
    assert spool.peek(3) == spool.peek(3) == [line(0), line(1), line(2)]
    spool.commit(2)
    assert len(spool) == 18
    assert drain(spool) == list(range(2, 20))
    assert len(spool) == 0
    put(spool, range(20, 25))
    assert drain(spool) == list(range(20, 25))
    assert spool.lost == 0
    spool.close()


def test_what_is_delivered_takes_little_room(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for n in range(2000):
        spool.append(line(n, 100))
        spool.commit(len(spool.peek(9)))
        assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) <= LEAST // 8
    assert spool.lost == 0
    spool.close()


@pytest.mark.parametrize("committed", [0, 1, 150, 299, 300])
def test_a_restart_goes_on_where_the_run_before_ended(tmp_path: Path, committed: int) -> None:
    spool = opened(tmp_path)
    put(spool, range(300), width=100)  # several segments
    left = committed
    while left:
        count = len(spool.peek(min(left, 11)))
        spool.commit(count)
        left -= count
    spool.close()
    again = opened(tmp_path)
    assert len(again) == 300 - committed
    put(again, range(300, 310))
    assert drain(again) == list(range(committed, 310))
    assert again.lost == 0
    again.close()


def test_drops_the_oldest_when_it_is_full_and_counts_them(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    put(spool, range(5), width=1000)
    assert len(spool.peek(2)) == 2
    spool.commit(2)  # delivered, so not lost
    for n in range(5, 500):
        spool.append(line(n, 1000))
        assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) <= LEAST
    waiting, lost = len(spool), spool.lost
    got = drain(spool)
    assert got == list(range(500 - len(got), 500))
    assert waiting == len(got) > 40  # most of what fits
    assert waiting + lost + 2 == 500
    spool.close()


@pytest.mark.parametrize("delivered", [0, 3])
@pytest.mark.parametrize("tail", [b'{"n": 9', b"\0" * 50, b"\n"], ids=["half", "zeros", "empty"])
def test_what_a_power_cut_left_half_written_is_taken_out(tmp_path: Path, tail: bytes, delivered: int) -> None:
    spool = opened(tmp_path)
    put(spool, range(9))
    spool.commit(len(spool.peek(delivered)))
    spool.close()
    (segment,) = tmp_path.glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(tail)
    again = opened(tmp_path)
    put(again, range(9, 12))
    assert again.lost == 1
    assert drain(again) == list(range(delivered, 12))
    again.close()


@pytest.mark.parametrize(
    ("position", "waiting"),
    [
        ("", range(9)),  # rather twice than never
        ("one two", range(9)),
        ("1", range(9)),
        ("1 99999", range(0)),  # a power cut took what was delivered already
        ("7 3", range(0)),  # of a later segment: all before it was delivered
    ],
)
def test_a_position_that_does_not_fit(tmp_path: Path, position: str, waiting: range) -> None:
    spool = opened(tmp_path)
    put(spool, range(9))
    spool.commit(len(spool.peek(4)))
    spool.close()
    (tmp_path / "position").write_text(position)
    for _ in range(2):
        again = opened(tmp_path)
        assert len(again) == len(waiting)
        again.close()
    again = opened(tmp_path)
    put(again, range(9, 12))
    assert drain(again) == [*waiting, 9, 10, 11]
    again.close()


KILLED = """
import sys
from pathlib import Path
from simplenet_edge.runtime.sinks import Spool
from tests.runtime.sinks.test_spool import line
import json
spool = Spool(Path(sys.argv[1]), 64 * 2**20)
spool.open()
for n in range(10**9):
    spool.append(line(n, 100))
    print("in", n, flush=True)
    if n % 3 == 0:
        for text in spool.peek(2):
            print("out", json.loads(text)["n"], flush=True)
        spool.commit(2)
"""


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        said = []
        for text in run.stdout:
            said.append(text)
            if text == "in 3000\n":
                break
        run.send_signal(signal.SIGKILL)
        said += [text for text in run.stdout if text.endswith("\n")]
    put_in = [int(text.split()[1]) for text in said if text.startswith("in")]
    taken_out = [int(text.split()[1]) for text in said if text.startswith("out")]
    spool = opened(tmp_path, 64 * 2**20)
    rest = drain(spool)
    spool.close()
    assert taken_out == list(range(len(taken_out)))
    assert rest == list(range(rest[0], rest[-1] + 1))
    assert len(taken_out) - 2 <= rest[0] <= len(taken_out)  # what was not committed comes again; nothing is left out
    assert rest[-1] >= put_in[-1]
    assert spool.lost == 0


def test_a_full_disk_is_an_error_and_spoils_nothing(small_disk: Path) -> None:
    spool = opened(small_disk / "spool", 64 * 2**20)
    with pytest.raises(SinkError, match="No space left"):
        put(spool, range(10**6), 1000)
    held = len(spool)
    (small_disk / "ballast").unlink()
    spool.append(line(held, 1000))
    assert drain(spool) == list(range(held + 1))
    assert spool.lost == 0
    spool.close()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(ConfigError, match="the spool of another run"):
        Spool(tmp_path).open()
    spool.close()
    opened(tmp_path).close()


def test_a_folder_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="name another folder"):
        Spool(tmp_path / "file").open()
    with pytest.raises(ConfigError, match="at least 65536 bytes"):
        Spool(tmp_path, 1000)


def test_a_line_nested_too_deep_to_be_read_is_counted_as_lost(tmp_path: Path) -> None:
    spool = opened(tmp_path, 64 * 2**20)
    put(spool, range(2))
    spool.close()
    with next(tmp_path.glob("*.jsonl")).open("ab") as file:
        file.write(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n")
    again = opened(tmp_path, 64 * 2**20)
    assert (drain(again), again.lost) == ([0, 1], 1)
    again.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_deleted_is_made_again_and_what_was_in_it_counts_as_lost(
    tmp_path: Path, replaced: bool
) -> None:
    folder = tmp_path / "spool"
    spool = opened(folder)
    put(spool, range(5))
    shutil.rmtree(folder)
    if replaced:
        other = opened(folder)
        put(other, range(50, 52))
        other.close()
    put(spool, range(5, 7))
    assert (drain(spool), spool.lost) == ([*(range(50, 52) if replaced else ()), 5, 6], 5)
    spool.close()
    again = opened(folder)
    assert len(again) == 0
    again.close()
