"""`serve`: bundles over HTTP, as KServe's Open Inference Protocol. No PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simplenet_edge.cli.console import note
from simplenet_edge.cli.logs import log_to_stderr
from simplenet_edge.cli.options import EngineOption, PrecisionOption, ThreadsOption

__all__ = ["serve"]


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]BUNDLE...",
            help="Bundles, each under a name or that in its manifest; those of one name are its versions 1, 2, ...",
        ),
    ],
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    listen: Annotated[str, typer.Option("--listen", help="PORT (this machine only) or HOST:PORT.")] = "8000",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token that clients need; needed off this machine."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option("--max-batch", help="Frames of a request, and of a call of the engine, at most.")
    ] = 8,
    batch_wait: Annotated[
        float,
        typer.Option(
            "--batch-wait",
            help="Milliseconds that a request waits for others to share a call; while the engine computes, all do.",
        ),
    ] = 0.0,
    queue: Annotated[
        int, typer.Option("--queue", help="Frames of a model that may wait; more are refused with 503.")
    ] = 128,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds until a request that was not answered is given up with 503.")
    ] = 30.0,
    connections: Annotated[
        int,
        typer.Option("--connections", help="Clients at a time; of more, the one that asked least lately is closed."),
    ] = 128,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve bundles over HTTP to clients of KServe's Open Inference Protocol (v2), such as Triton's.

    Every bundle replays its golden frames first. Runs until Ctrl-C or SIGTERM; what waits then is answered.
    """
    from simplenet_edge.workflows.serve_models import ServeOptions, read_models, serve_models

    options = ServeOptions(
        engine=engine,
        precision=precision,
        threads=threads,
        listen=listen,
        token_file=token_file,
        max_batch=max_batch,
        batch_wait_ms=batch_wait,
        queue=queue,
        timeout_s=timeout,
        connections=connections,
    )
    with log_to_stderr(log_level):
        serve_models(read_models(models), options, note)
