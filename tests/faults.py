"""What a disk and a power cut do to a writer: files that can't grow, disks that are full, kills between two steps."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_STEPS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "ctypes.dlsym", "shutil.rmtree")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system refuses every write of this process past `size` bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of `kib` KiB at `folder`; where this user can't mount one the test is skipped."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a copy of this process that is killed before its step `step`, from 0; whether it came so far.

    A step opens a file for writing, renames, makes or removes something.
    """
    child = os.fork()
    if child == 0:
        left = step

        def before(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _STEPS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(before)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, f"step {step}: the work failed by itself"
    return False


def outcomes(script: Path, *words: object) -> Any:
    """What a script, run in a process of its own, printed as JSON."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
