"""Open engines, served over HTTP to clients that speak KServe's Open Inference Protocol (v2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.http_server import HttpServer, needs_serve_extra, require_token
from simplenet_edge.serving.batcher import BatchConfig

__all__ = ["TOKEN_VARIABLE", "ModelServer"]

TOKEN_VARIABLE = "SIMPLENET_EDGE_SERVE_TOKEN"
"""Of the environment; may hold the token."""

_IDLE_S = 60.0  # between two requests of a client, so that one with a frame now and then stays connected


class ModelServer:
    """A context manager that serves engines, which are open and stay the caller's, each under a name.

    Those of one name are its versions 1, 2, ... At the end `/v2/health/ready` says no, nothing new is taken, and what
    waits is answered. A request that is not answered after `timeout_s` is given up; of more than `connections`, the one
    that has waited longest for its client is closed. Off the loopback address a `token` is asked for, of at least 16
    characters; what is sent is not encrypted.

    Raises ConfigError without that token and for limits that can't be, SimpleNetEdgeError where the address can't be
    taken and where the extra `serve` is missing.
    """

    def __init__(
        self,
        engines: Sequence[tuple[str, Engine]],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        token: str | None = None,
        batches: BatchConfig = BatchConfig(),  # noqa: B008 - it is frozen
        timeout_s: float = 30.0,
        connections: int = 128,
    ) -> None:
        require_token(host, token, TOKEN_VARIABLE, "send frames and read the models")
        if not 0 < timeout_s <= 3600:
            raise ConfigError(f"a request may take up to 3600 seconds, not {timeout_s}")
        if connections < 1:
            raise ConfigError(f"there is at least 1 connection, not {connections}")
        self._engines = engines
        self._host, self._port, self._token = host, port, token
        self._batches, self._timeout_s, self._connections = batches, timeout_s, connections
        self._stack = ExitStack()
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        """Where it is served, without a slash at the end; inside `with` only."""
        assert self._server is not None, "nothing is served; use it inside `with server:`"
        return self._server.url

    def __enter__(self) -> ModelServer:
        with needs_serve_extra("serve"):
            from simplenet_edge.serving.app import ServingApp
            from simplenet_edge.serving.metrics import ServingMetrics
            from simplenet_edge.serving.models import Models
        metrics = ServingMetrics()
        models = Models(self._engines, self._batches, metrics)
        app = ServingApp(models, metrics, self._timeout_s)
        with ExitStack() as stack:
            served = app.create(self._host, self._token)
            self._server = stack.enter_context(
                HttpServer(served, self._host, self._port, head_s=_IDLE_S, connections=self._connections)
            )
            stack.enter_context(models)  # left first: what waits is answered while the server still is there
            stack.callback(setattr, app, "is_ready", False)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._server = None
