"""The monitor as the line uses it: a sink to give results to, and a server that shows them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from simplenet_edge.runtime.http_server import HttpServer, needs_serve_extra, require_token
from simplenet_edge.runtime.monitor.sink import MonitorSink
from simplenet_edge.runtime.status import LineStatus
from simplenet_edge.runtime.teach import Teach

__all__ = ["TOKEN_VARIABLE", "Monitor"]

TOKEN_VARIABLE = "SIMPLENET_EDGE_MONITOR_TOKEN"
"""Of the environment; may hold the token."""


class Monitor:
    """A context manager that serves the page, the API, `/health` and `/metrics` of one line.

    `swap` loads the model anew and gives a sentence about it; `select` is `Recipes.select`; without them, nobody can
    ask for that. On another address than the loopback a `token` is asked for, of at least 16 characters; what is sent
    is not encrypted.

    Raises ConfigError without that token, SimpleNetEdgeError where the address can't be taken, and where the extra
    `serve` is missing.
    """

    def __init__(
        self,
        status: LineStatus,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        token: str | None = None,
        swap: Callable[[], str] | None = None,
        select: Callable[[str], str] | None = None,
        teach: Teach | None = None,
        gallery_size: int = 24,
    ) -> None:
        require_token(host, token, TOKEN_VARIABLE, "see the parts and swap the model")
        self.sink = MonitorSink(gallery_size)
        self._status = status
        self._host, self._port, self._token = host, port, token
        self.swap, self.select, self.teach = swap, select, teach  # read when it is entered: the line needs `sink` first
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        """Where it is served, without a slash at the end; inside `with` only."""
        assert self._server is not None, "the monitor is not served; use it inside `with monitor:`"
        return self._server.url

    def __enter__(self) -> Monitor:
        with needs_serve_extra("the monitor"):
            from simplenet_edge.runtime.monitor.app import create_app
        app = create_app(self._status, self.sink, self.swap, self.select, self.teach, self._host, self._token)
        self._server = HttpServer(app, self._host, self._port)
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(kind, error, trace)
