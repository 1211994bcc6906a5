"""The command line: each command parses, calls one function and prints.

Results go to standard output (`--json`: one JSON object), progress and warnings to standard error. Exit codes are those
of `simplenet_edge.errors`: 0 done, 1 a missing extra, 2 option, 3 data, 4 weights, 5 bundle, 6 engine, 7 parity,
8 source, 9 sink, 10 recipe, 11 lesson.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from simplenet_edge import __version__
from simplenet_edge.cli import (
    backtest,
    benchmark,
    build,
    cameras,
    check,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    run,
    score,
    serve,
    sweep,
    teach,
    train,
    triton,
    verify,
    visibility,
)
from simplenet_edge.cli.logs import printable
from simplenet_edge.errors import DataError, SimpleNetEdgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="simplenet-edge",
    help="SimpleNet anomaly detection, from images of good parts to a verified engine beside the line.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    check.check,
    train.train,
    evaluate.evaluate,
    visibility.visibility,
    export.export,
    demo.demo,
    sweep.sweep,
    build.build,
    verify.verify,
    inspect.inspect,
    doctor.doctor,
    teach.teach,
    teach.lessons,
    cameras.cameras,
    benchmark.benchmark,
    run.run,
    serve.serve,
    triton.triton,
    score.score,
    backtest.backtest,
):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command line; an expected error is one line on standard error and its own exit code."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started this, as in `2>&-`
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 - to the end of the process
    if any((Path(__file__).parents[1] / name).is_file() for name in ("engines", "export")):  # links, or folders
        sys.stderr.write(f"error: {_LINKS_LOST}\n")
        sys.exit(1)
    try:
        app()
    except SimpleNetEdgeError as error:
        sys.stderr.write(f"error: {_one_line(error)}\n")
        sys.exit(error.exit_code)
    except OSError as error:  # what the system refuses before any of our own code looks: a name too long, no right
        sys.stderr.write(f"error: {_one_line(error)}; name another file or folder\n")
        sys.exit(DataError.exit_code)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        cure = f"pip install 'simplenet-edge[{extra}]'" if extra else "simplenet-edge doctor"
        sys.stderr.write(f"error: {error.name} is not installed; run: {cure}\n")
        sys.exit(1)
    except ImportError as error:
        sys.stderr.write(f"error: a library does not load ({_one_line(error)}); run: simplenet-edge doctor\n")
        sys.exit(1)


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))


_LINKS_LOST = (
    "this checkout's symbolic links simplenet_edge/engines and simplenet_edge/export came out as text files; "
    "run: git config core.symlinks true && git checkout -- simplenet_edge, or: pip install ."
)

_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "safetensors": "train",
    "sklearn": "train",
    "scipy": "train",
    "tensorboard": "train",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "ort",
    "ray": "archive",
    "pyarrow": "archive",
    "fsspec": "archive",
}
"""Which extra brings a package that a command misses."""
