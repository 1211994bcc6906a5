"""Progress as lines of a log, and how a long command is stopped."""

from __future__ import annotations

import math

import pytest
import typer

from simplenet_edge.cli.console import ProgressLines, resumable, warn_left_out


def lines_of(least_s: float, most_s: float, steps: int = 100) -> list[str]:
    lines: list[str] = []
    progress = ProgressLines(lines.append, least_s, most_s)
    for stage in ("features", "training"):
        for step in range(1, steps + 1):
            if stage == "training":
                progress.loss(1 / step)
            progress.report(stage, step, steps)
    progress.stop()
    return lines


def test_every_tenth_is_a_line() -> None:
    lines = lines_of(0, math.inf)
    assert [line.split(",")[0] for line in lines[:10]] == [f"features: {10 * i}/100" for i in range(1, 11)]
    assert len(lines) == 20
    assert lines[-1].startswith("training: 100/100, loss 0.01, ")
    assert all(("s left" in line) == ("100/100" not in line) for line in lines)


def test_a_long_stage_is_heard_of_between_tenths() -> None:
    assert len(lines_of(math.inf, 0)) == 200


def test_the_end_of_a_stage_is_told_however_short_it_was() -> None:
    assert [line.split(",")[0] for line in lines_of(math.inf, math.inf)] == ["features: 100/100", "training: 100/100"]


def test_a_stage_that_does_not_come_to_its_end_is_told_once() -> None:
    lines: list[str] = []
    progress = ProgressLines(lines.append, math.inf, math.inf)
    progress.report("features", 3, 9)
    progress.report("features", 4, 9)
    progress.report("training", 1, 9)
    progress.stop()
    progress.stop()
    assert [line.split(",")[0] for line in lines] == ["features: 4/9", "training: 1/9"]


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, resumable("the same command with --resume goes on"):
        raise KeyboardInterrupt
    assert left.value.exit_code == 130
    assert "stopped; the same command with --resume goes on" in capsys.readouterr().err


def test_of_many_files_that_were_left_out_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    warn_left_out([f"{i}.png: cut off" for i in range(8)])
    err = capsys.readouterr().err
    assert "4.png" in err
    assert "5.png" not in err
    assert "left out: 3 more" in err
