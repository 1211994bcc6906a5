"""The log of a command that runs for months."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from simplenet_edge.cli.logs import log_to_stderr
from simplenet_edge.errors import ConfigError

LOGS = """
import logging
from simplenet_edge.cli.logs import log_to_stderr
logging_on = log_to_stderr({level!r})
logging_on.__enter__()
log = logging.getLogger("line")
log.info("to know")
log.warning("%s is INVALID", "two\\nlines\\x1b[31m\\udce9.png")
for n in range(1000):
    log.error("camera %d is away", n)
log.error("another kind")
try:
    raise ValueError("a bug")
except ValueError:
    log.exception("with its traceback")
"""


def logged(level: str) -> list[str]:
    code = LOGS.format(level=level)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.splitlines()


def test_lines_have_times_and_levels_and_can_not_be_forged() -> None:
    first, second, *rest = logged("info")
    assert re.fullmatch(r"[-0-9]{10} [:0-9]{8},[0-9]{3} INFO to know", first)
    assert second.endswith(r"WARNING two\nlines\x1b[31m\udce9.png is INVALID")
    assert [line.split("ERROR ")[1] for line in rest[:22]] == [
        *(f"camera {n} is away" for n in range(20)),
        "another kind",
        "with its traceback",
    ]
    assert rest[-1] == "ValueError: a bug"


def test_levels() -> None:
    assert not any("to know" in line for line in logged("warning"))
    with pytest.raises(ConfigError, match="debug, info, warning, error"), log_to_stderr("loud"):
        pass


def test_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    record = logging.LogRecord("line", logging.ERROR, __file__, 1, "camera %d", (7,), None)
    with log_to_stderr("error"):
        handler = logging.root.handlers[-1]
        assert [handler.filter(record) is not False for _ in range(30)] == [True] * 20 + [False] * 10
        now[0] = 61.0
        assert handler.filter(record) is not False
    assert record.getMessage() == "camera 7 (10 lines like this one were left out)"
    assert handler not in logging.root.handlers


def test_one_camera_that_floods_does_not_hide_another_and_all_together_are_bounded() -> None:
    with log_to_stderr("error"):
        handler = logging.root.handlers[-1]

        def passes(name: str, number: int) -> bool:
            record = logging.LogRecord("line", logging.ERROR, __file__, 1, "%s is away", (f"{name}#{number}",), None)
            return handler.filter(record) is not False

        assert sum(passes("left", number) for number in range(1000)) == 20
        assert passes("right", 0)
        names = ["".join("abcdefghij"[int(digit)] for digit in str(number)) for number in range(1000)]
        assert sum(passes(name, 0) for name in names) == 200 - 21
