"""An HTTP application (ASGI) served from a thread of its own, so that it can't hold up the line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError

if TYPE_CHECKING:
    import uvicorn

__all__ = ["HttpServer", "needs_serve_extra", "parse_address"]

_START_S = 20.0
_STOP_S = 2


def parse_address(text: str) -> tuple[str, int]:
    """`8080`, `:8080` or `0.0.0.0:8080` as (host, port); the loopback address where no host is named.

    Raises ConfigError.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"expected an address such as 8080 or 0.0.0.0:8080, not {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def needs_serve_extra(what: str) -> Iterator[None]:
    """Around the imports of what the extra `serve` installs: a missing one is a SimpleNetEdgeError that says so."""
    try:
        yield
    except ImportError as error:
        raise SimpleNetEdgeError(f"{what} needs {error.name}; run: pip install 'simplenet-edge[serve]'") from error


class HttpServer:
    """A context manager: listens from `__enter__` on; port 0 takes a free one, and `port` then says which.

    Raises SimpleNetEdgeError where the address can't be taken, and where starlette or uvicorn is missing.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._app = app
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __enter__(self) -> HttpServer:
        with needs_serve_extra("serving HTTP"):
            import uvicorn
        self._socket = self._listen()
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_S
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, thread, listening = self._server, self._thread, self._socket
        if server is not None and thread is not None and listening is not None:
            server.should_exit = True
            thread.join(_START_S)
            listening.close()
        self._server = self._thread = self._socket = None

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self.port))
            listening.listen(128)
        except OSError as error:
            listening.close()
            raise SimpleNetEdgeError(  # not an option that can't work: the address may come up, the port may get free
                f"{self.host}:{self.port} can't be listened on ({error.strerror}); name another address or port"
            ) from error
        return listening
