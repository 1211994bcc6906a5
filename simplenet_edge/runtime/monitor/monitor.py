"""The monitor as the line uses it: a sink to give results to, and a server that shows them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from types import TracebackType

from simplenet_edge.runtime.http_server import HttpServer, needs_serve_extra
from simplenet_edge.runtime.monitor.sink import MonitorSink
from simplenet_edge.runtime.status import LineStatus

__all__ = ["Monitor"]


class Monitor:
    """A context manager that serves the page, the API, `/health` and `/metrics` of one line.

    `swap` loads the model anew and gives a sentence about it; without it, nobody can ask for that. There is no login:
    on another address than the loopback, whoever reaches the port sees the parts and can ask for a swap.

    Raises SimpleNetEdgeError where the address can't be taken, and where the extra `serve` is missing.
    """

    def __init__(
        self,
        status: LineStatus,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        swap: Callable[[], str] | None = None,
        gallery_size: int = 24,
    ) -> None:
        self.sink = MonitorSink(gallery_size)
        self._status = status
        self._host, self._port = host, port
        self.swap = swap  # read when it is entered: the line, which gives it, needs `sink` first
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        """Where it is served, without a slash at the end; inside `with` only."""
        assert self._server is not None, "the monitor is not served; use it inside `with monitor:`"
        return self._server.url

    def __enter__(self) -> Monitor:
        with needs_serve_extra("the monitor"):
            from simplenet_edge.runtime.monitor.app import create_app
        hosts = {"localhost", "127.0.0.1", "::1", self._host} if _is_loopback(self._host) else None
        self._server = HttpServer(create_app(self._status, self.sink, self.swap, hosts), self._host, self._port)
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(kind, error, trace)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
