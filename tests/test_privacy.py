"""Nothing is written outside the folders that were named, and no connection is opened that nobody asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trees import ROOT

pytestmark = pytest.mark.slow

CLI = "from simplenet_edge.cli import main; main()"
AUDITED = f"""
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sys.stderr.write(f"AUDIT {{event}} {{arguments[1:]}}\\n")
sys.addaudithook(hook)
{CLI}
"""
WORDS = {
    "verify": "verify {bundle}",
    "verify with OpenVINO": "verify {bundle} --engine openvino",
    "run": "run {bundle} {parts}/test --jsonl {out}/verdicts.jsonl --overlays {out}/ng",
    "benchmark": "benchmark {bundle} --duration 0.05 --all",
    "doctor": "doctor",
    "export": "export {run} -o {out}/new.bundle",
}
_WRITES = re.compile(
    r'(?:open|openat|creat|mkdir|mkdirat)\([^"\n]*"([^"\n]+)"[^)\n]*(?:O_WRONLY|O_RDWR|O_CREAT|, 0[0-7]{3}\))'
)


@pytest.fixture
def words(bundle_path: Path, parts: Path, run_folder: Path, tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "out").mkdir()
    places = {"bundle": bundle_path, "parts": parts, "run": run_folder, "out": tmp_path / "out"}
    return {name: text.format(**places).split() for name, text in WORDS.items()}


def environment(tmp_path: Path) -> dict[str, str]:
    """That of a user who has just been created: an empty home folder, and nothing chosen."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "TORCH"))}
    own = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
    return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("name", WORDS)
def test_a_command_leaves_nothing_behind_and_calls_nobody(
    words: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    call = [sys.executable, "-c", AUDITED, *words[name]]
    done = subprocess.run(
        call, env=environment(tmp_path), cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "AUDIT" not in done.stderr
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.parametrize("name", WORDS)
def test_the_system_sees_no_connection_and_no_other_file(
    words: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    """As above, libraries in C and C++ included."""
    log = tmp_path / "calls.txt"
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,open,openat,creat,mkdir,mkdirat", "-o", str(log)]
    if shutil.which("strace") is None or subprocess.run([*trace, "true"], check=False).returncode != 0:
        pytest.skip("strace is not installed, or may not trace here")
    call = [*trace, sys.executable, "-c", CLI, *words[name]]
    done = subprocess.run(
        call, env=environment(tmp_path), cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = log.read_text(errors="replace")
    assert re.findall(r"sa_family=AF_INET6?\b.*", calls) == []
    assert "verify" not in name or str(words[name][1]) in calls  # the trace is of what ran
    written = {path for path in _WRITES.findall(calls) if path.startswith("/")}
    allowed = (str(tmp_path / "out"), str(tmp_path / "tmp"), "/dev/", "/proc/")
    assert {path for path in written if not path.startswith(allowed)} == set()


@pytest.mark.parametrize("module", ["simplenet_edge", "simplenet_edge.engines", "simplenet_edge.cli"])
def test_onnxruntime_does_not_report_unless_the_user_says_so(module: str) -> None:
    code = f"import {module}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for chosen, expected in ((None, "1"), ("0", "0"), ("1", "1")):
        kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        env = kept if chosen is None else {**kept, "ORT_DISABLE_TELEMETRY": chosen}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_these_tests_do_not_report_either() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
