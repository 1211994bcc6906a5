"""An HTTP application (ASGI) served from a thread of its own, so that it can't hold up the line."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError

if TYPE_CHECKING:
    import uvicorn

__all__ = [
    "HttpServer",
    "in_url",
    "is_loopback",
    "listening_socket",
    "needs_serve_extra",
    "parse_address",
    "read_token",
    "require_token",
]

_START_S = 20.0
_STOP_S = 2
_LEAST_TOKEN = 16
_BACKLOG = 64  # connections that are accepted in one go, before those that are too many are closed


def parse_address(text: str) -> tuple[str, int]:
    """`8080`, `:8080` or `0.0.0.0:8080` as (host, port); the loopback address where no host is named.

    Raises ConfigError.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"expected an address such as 8080 or 0.0.0.0:8080, not {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def in_url(host: str, port: int) -> str:
    """A host and a port as they stand in a URL: `127.0.0.1:8080`, `[::1]:8080`."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises SimpleNetEdgeError where the address can't be taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # by name, or asyncio sets no TCP_NODELAY
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise SimpleNetEdgeError(  # not an option that can't work: the address may come up, the port may get free
            f"{host}:{port} can't be listened on ({error.strerror}); name another address or port"
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None, variable: str) -> str | None:
    """The token in a file, or without one in the environment's `variable`; None where there is none.

    Raises ConfigError for a file that can't be read.
    """
    if file is None:
        return os.environ.get(variable)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file}: expected a file with the token in it ({error})") from error


def require_token(host: str, token: str | None, variable: str, risk: str) -> None:
    """Raise ConfigError where the network could come in without a token, or with one that is easy.

    `variable` of the environment may hold the token; `risk` is what the network may do there.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"listening on {host}, where the network may {risk}, needs a token: set it in the environment, {variable}, "
            "or in a file, --token-file"
        )
    if token is not None and (len(token) < _LEAST_TOKEN or not (token.isascii() and token.isprintable())):
        raise ConfigError(f"the token needs at least {_LEAST_TOKEN} ASCII characters, without line breaks")


@contextmanager
def needs_serve_extra(what: str) -> Iterator[None]:
    """Around the imports of what the extra `serve` installs: a missing one is a SimpleNetEdgeError that says so."""
    try:
        yield
    except ImportError as error:
        raise SimpleNetEdgeError(f"{what} needs {error.name}; run: pip install 'simplenet-edge[serve]'") from error


class HttpServer:
    """A context manager that serves up to `connections`, of which each has `head_s` for the head of a request.

    Listens from `__enter__` on; port 0 takes a free one, and `port` then says which.

    Raises SimpleNetEdgeError where the address can't be taken, and where starlette or uvicorn is missing.
    """

    def __init__(self, app: Any, host: str, port: int, *, head_s: float = 5.0, connections: int = 64) -> None:
        self.host = host
        self.port = port
        self._app = app
        self._head_s, self._connections = head_s, connections
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{in_url(self.host, self.port)}"

    def __enter__(self) -> HttpServer:
        with needs_serve_extra("serving HTTP"):
            import uvicorn

            from simplenet_edge.runtime.http_protocol import BoundedProtocol
        self._socket = listening_socket(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=type("Protocol", (BoundedProtocol,), {"head_s": self._head_s, "most": self._connections}),
            backlog=max(_BACKLOG, self._connections),
            timeout_keep_alive=math.ceil(self._head_s),
            log_level="error",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_STOP_S,
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
