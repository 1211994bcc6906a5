"""Write docs/cli.md from the commands themselves: python scripts/cli_docs.py

Read are the signatures and help texts that the command line is made of, not what a terminal shows of them, so that the
page is the same on every machine.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from typer import Context
from typer.models import ArgumentInfo
from typer.utils import get_params_from_function

from simplenet_edge import errors
from simplenet_edge.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

<!-- Written by scripts/cli_docs.py from the commands; don't edit it. -->

Every command explains itself: `simplenet-edge --help`, `simplenet-edge COMMAND --help`. Results go to standard output,
progress and warnings to standard error; with `--json` the result is one JSON object.
"""
WORDS = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}
"""What stands for a value of each type."""


def page() -> str:
    """The whole page as Markdown."""
    commands = [command.callback for command in app.registered_commands if command.callback is not None]
    overview = table(("command", ""), ((f"[`{c.__name__}`](#{c.__name__})", summary(c)) for c in commands))
    return "\n".join([HEAD, overview, *map(section, commands), exit_codes()])


def section(command: Callable[..., Any]) -> str:
    """One command: what it does, how it is called, its arguments and options."""
    found = get_params_from_function(command).values()
    parameters = [p for p in found if p.annotation is not Context]
    arguments = [p for p in parameters if isinstance(p.default, ArgumentInfo)]
    options = [p for p in parameters if not isinstance(p.default, ArgumentInfo)]
    called = [argument_name(p) if p.default.default is ... else f"[{argument_name(p)}]" for p in arguments]
    called += [f"{names(p)[0]} {value(p)}" for p in options if p.default.default is ...]
    parts = [
        f"## {command.__name__}\n",
        f"{inspect.getdoc(command)}\n",
        f"```\nsimplenet-edge {' '.join([command.__name__, *called, '[OPTIONS]'])}\n```\n",
    ]
    if arguments:
        parts.append(table(("argument", ""), ((f"`{argument_name(p)}`", p.default.help or "") for p in arguments)))
    parts.append(table(("option", "default", ""), map(option_row, options)))
    return "\n".join(parts)


def option_row(parameter: Any) -> tuple[str, str, str]:
    """An option as its names with its value, its default, and its help."""
    default = parameter.default.default
    shown = "required" if default is ... else "" if default is None or default is False else f"`{default}`"
    if default is True:
        shown = f"`{names(parameter)[0]}`"
    spelled = ", ".join(names(parameter))
    return f"`{f'{spelled} {value(parameter)}'.rstrip()}`", shown, parameter.default.help or ""


def argument_name(parameter: Any) -> str:
    """What an argument is called in usage."""
    return str(parameter.default.metavar or parameter.name.upper())


def names(parameter: Any) -> list[str]:
    """The spellings of an option, the long one first."""
    declared = list(parameter.default.param_decls or ())
    if declared:
        return sorted(declared, key=len, reverse=True)
    name = parameter.name.replace("_", "-")
    return [f"--{name}", f"--no-{name}"] if plain(parameter) is bool else [f"--{name}"]


def value(parameter: Any) -> str:
    """What follows the option's name; nothing for a switch."""
    kind = plain(parameter)
    if kind is bool:
        return ""
    if parameter.default.metavar:
        return str(parameter.default.metavar)
    return " ".join(WORDS[part] for part in get_args(kind) or (kind,))


def plain(parameter: Any) -> Any:
    """The type of an option, without None."""
    kind = parameter.annotation
    if get_origin(kind) is types.UnionType:
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return kind


def exit_codes() -> str:
    """The exit codes, from the tree of errors."""
    meanings = {0: "done", 1: "a package of an extra is missing, or the checkout is damaged"}
    for kind in vars(errors).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, errors.SimpleNetEdgeError)
            and errors.SimpleNetEdgeError in kind.__bases__
        ):
            meanings[kind.exit_code] = first_line(kind).removesuffix(".")
    rows = ((f"`{code}`", meanings[code]) for code in sorted(meanings))
    return f"## Exit codes\n\n{table(('code', ''), rows)}"


def summary(command: Callable[..., Any]) -> str:
    """The first sentence of a command's help."""
    return re.split(r"[.:;] |\.$", first_line(command))[0]


def first_line(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def escaped(text: str) -> str:
    """Text for a cell: what Markdown would read as a column or a tag is shown as it is."""
    return text.replace("|", "\\|") if text.startswith("`") else text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
