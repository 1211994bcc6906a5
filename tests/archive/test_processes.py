"""`score` as a process of its own: killed, interrupted, on a cluster, and watched."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from simplenet_edge.bundle import Bundle
from tests.archive.pictures import rows_of, scores_of, write_pictures
from tests.trees import ROOT
from tests.waiting import until

pytestmark = pytest.mark.slow

CLI = "from simplenet_edge.cli import main; main()"
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def start(*words: object) -> subprocess.Popen[str]:
    """The command in a group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *map(str, words)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*words: object) -> dict[str, Any]:
    process = start(*words, "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    values: dict[str, Any] = json.loads(out)
    return values


def parts(output: Path) -> list[Path]:
    return sorted(output.with_name(f"{output.name}.parts").glob("*.parquet"))


def stop_halfway(process: subprocess.Popen[str], output: Path, number: int) -> str:
    """Send a signal as soon as something is scored; what it said on standard error."""
    try:
        until(lambda: parts(output) or process.poll() is not None, "a part")
        os.kill(process.pid, number)
    finally:
        _, err = process.communicate()
    return err


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_pictures(folder, 6000)
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_run_again_each_picture_is_there_once(
    bundle: Bundle, archive: Path, tmp_path: Path, number: int
) -> None:
    output = tmp_path / "scores.parquet"
    words = ("score", bundle.path, archive, "-o", output, "--batch", 4)
    process = start(*words)
    err = stop_halfway(process, output, number)
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    assert ("the same command goes on with what has no score yet" in err) == (number == signal.SIGINT)
    assert "Traceback" not in err
    assert not output.exists()
    *whole, last = parts(output)
    if number == signal.SIGKILL:
        last.write_bytes(last.read_bytes()[:-1])
    else:
        whole.append(last)
    kept = len({path for part in whole for path in pq.read_table(part)["path"].to_pylist()})
    assert kept < 6000
    found = finish(*words)
    assert (found["pictures"], found["scored"]) == (6000, 6000 - kept)  # none of them a second time
    rows = rows_of(output)
    some = sorted(archive.rglob("*.png"))[::97]
    assert len(rows) == 6000
    assert {str(path): rows[str(path)]["score"] for path in some} == pytest.approx(scores_of(bundle, some), rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[str]:
    """The address of a cluster of two nodes with a processor each."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment(RAY_USAGE_STATS_ENABLED="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate()
    assert process.returncode == 0


def test_two_nodes_give_what_one_gives(two_nodes: str, bundle: Bundle, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "archive", 300)
    paths[7].write_bytes(b"no picture")
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    words = ("score", bundle.path, tmp_path / "archive", "-o")
    finish(*words, here)
    moved = shutil.copytree(bundle.path, tmp_path / "only-here")  # the nodes don't open it by its path
    words = ("score", moved, tmp_path / "archive", "-o")
    found = finish(*words, there, "--ray", two_nodes, "--workers", 2)
    assert (found["pictures"], found["failed"]) == (300, 1)
    assert pq.read_table(there).equals(pq.read_table(here))


def test_nothing_is_left_behind_and_nobody_is_called(bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(log)]
    if shutil.which("strace") is None or subprocess.run([*trace, "true"], check=False).returncode != 0:
        pytest.skip("strace is not installed, or may not trace here")
    write_pictures(tmp_path / "archive", 3)
    home, temporary = tmp_path / "home", Path("/tmp") / f"of-{os.getpid()}"  # short: sockets go there
    home.mkdir()
    temporary.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(temporary)}
    kept = {name: value for name, value in environment(**own).items() if not name.startswith(("XDG_", "RAY_"))}
    words = ["score", str(bundle.path), str(tmp_path / "archive"), "-o", str(tmp_path / "scores.parquet")]
    done = subprocess.run([*trace, sys.executable, "-c", CLI, *words], env=kept, capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stderr
        assert len(rows_of(tmp_path / "scores.parquet")) == 3
        called = re.findall(r'inet_addr\("([^"]+)"|inet_pton\(AF_INET6, "([^"]+)"', log.read_text(errors="replace"))
        assert {four or six for four, six in called} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        assert called
        assert list(home.rglob("*")) == []
        assert list(temporary.iterdir()) == []
        assert [line for line in done.stderr.splitlines() if "ray" in line.lower()] == []
    finally:
        shutil.rmtree(temporary)
