"""Serve bundles over HTTP until Ctrl-C or SIGTERM. No PyTorch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fastest import settle_engine
from simplenet_edge.progress import OnMessage, ignore_message
from simplenet_edge.runtime.http_server import parse_address, read_token
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.process import notify_systemd, signals_handled, switching_fast
from simplenet_edge.serving.batcher import BatchConfig
from simplenet_edge.serving.models import check_name
from simplenet_edge.serving.server import TOKEN_VARIABLE, ModelServer

__all__ = ["ServeOptions", "read_models", "serve_models"]

_LOOK_S = 0.1  # for a signal; not `Event.wait`, whose lock the signal's handler would need
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """How bundles are served. What can't be is refused by those who take it."""

    engine: str = "auto"  # auto on a CPU without threads: measured for a second, the fastest wins
    precision: str = "fp32"
    threads: int | None = None  # CPU threads of each engine; None: its own choice
    listen: str = "8000"  # PORT of this machine only, or HOST:PORT
    token_file: Path | None = None  # off this machine; None: from the environment
    max_batch: int = 8  # frames of a request, and of a call of the engine
    batch_wait_ms: float = 0.0  # for which the first request of a batch waits for others
    queue: int = 128  # frames that may wait, of each model
    timeout_s: float = 30.0  # for a request, its upload included
    connections: int = 128


def read_models(texts: Sequence[str]) -> list[tuple[str | None, Path]]:
    """`NAME=BUNDLE` as a name and a path; without a name that before the first `=`, a path alone.

    Raises ConfigError for a name that can't be one.
    """
    models: list[tuple[str | None, Path]] = []
    for text in texts:
        name, equals, path = text.partition("=")
        is_path = not equals or "/" in name or Path(text).exists()
        models.append((None, Path(text)) if is_path else (check_name(name), Path(path)))
    return models


def serve_models(
    models: Sequence[tuple[str | None, Path]], options: ServeOptions, on_message: OnMessage = ignore_message
) -> None:
    """Serve bundles, each under its name or that of its manifest, until Ctrl-C or SIGTERM.

    Every bundle replays its golden frames first; those of one name are its versions 1, 2, ... What waits at the end is
    answered. Raises ConfigError, BundleError, EngineError, ParityError, or SimpleNetEdgeError where the address can't
    be taken.
    """
    host, port = parse_address(options.listen)
    token = read_token(options.token_file, TOKEN_VARIABLE)
    batches = BatchConfig(options.max_batch, options.batch_wait_ms, options.queue)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals_handled(stop))
        stack.enter_context(switching_fast())
        choice = settle_engine(models[0][1], options.engine, options.precision, options.threads)
        on_message(f"engine {choice.name}: {choice.reason}")
        engines: list[tuple[str, Engine]] = []
        for name, path in models:
            engine = ModelLoader(path, choice.name, options.precision, choice.threads).load().engine
            stack.callback(engine.close)
            engines.append((name or engine.bundle.manifest.name, engine))
        server = ModelServer(
            engines,
            host=host,
            port=port,
            token=token,
            batches=batches,
            timeout_s=options.timeout_s,
            connections=options.connections,
        )
        stack.enter_context(server)
        for name, engine in engines:
            on_message(f"model {name}: bundle {engine.bundle.id} ({engine.bundle.path})")
        on_message(f"serving at {server.url}/v2")
        notify_systemd("READY=1")
        while not stop.is_set():
            time.sleep(_LOOK_S)
        notify_systemd("STOPPING=1")
        _log.info("ending: what waits is answered first")
