"""`doctor`: what this machine has and what it lacks. No PyTorch."""

from __future__ import annotations

import dataclasses

from simplenet_edge.cli.console import print_json, print_table
from simplenet_edge.cli.options import JsonOption

__all__ = ["doctor"]


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine has, what is missing and how to get it."""
    from simplenet_edge.doctor import diagnose

    checks = diagnose()
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
        return
    signs = {True: "ok", False: "missing", None: "-"}
    print_table("Doctor", ("", "", "", ""), [(c.name, signs[c.ok], c.detail, c.advice or "") for c in checks])
