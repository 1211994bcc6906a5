"""`doctor`: what this machine has and what it lacks. No PyTorch."""

from __future__ import annotations

import dataclasses

import typer

from simplenet_edge.cli.console import print_json
from simplenet_edge.cli.options import JsonOption

__all__ = ["doctor"]


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has, what is missing or broken, and the command that mends it."""
    from simplenet_edge.doctor import diagnose

    checks = diagnose()
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
        return
    signs = {True: "ok", False: "PROBLEM", None: "-"}
    width = max(len(check.name) for check in checks)
    for check in checks:  # no table: its columns would cut commands that are to be copied
        typer.echo(f"{signs[check.ok]:>7}  {check.name:{width}}  {check.detail}")
        if check.advice:
            typer.echo(f"{'':{width + 9}}  {check.advice}")
