"""Who may ask a server: under which names, and, off the loopback address, with which token. Needs starlette.

A program sends the token as `Authorization: Bearer TOKEN`. Nothing here allows other origins.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from typing import ClassVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simplenet_edge.runtime.http_server import is_loopback

__all__ = ["Guard", "is_same", "refusal"]

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware. Refuses names that are not this machine's, and where there is a token those who don't have it.

    A foreign name can be made to point here (DNS rebinding), a number can't. `scope["state"]["is_known"]` tells the
    application whether the token was there, for the paths that are open to all.
    """

    open_paths: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app = app
        self._token = token
        name = socket.gethostname().lower()
        self._names = {"localhost", host.lower(), name, f"{name}.local", socket.getfqdn().lower()}
        self._is_local = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app = self._app if scope["type"] != "http" else await self._answer(scope, receive)
        await app(scope, receive, send_guarded)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            return refusal(403, "this machine is not called so; ask for it by its number or as localhost")
        is_known = self._token is None or self._is_known(headers, self._token)
        scope.setdefault("state", {})["is_known"] = is_known
        if is_known or scope["path"] in self.open_paths:
            return self._app
        return await self._stranger(scope, receive)

    async def _stranger(self, scope: Scope, receive: Receive) -> ASGIApp:
        """What to answer to who has no token."""
        return JSONResponse({"error": "the token is missing"}, 401, {"www-authenticate": "Bearer"})

    def _is_known(self, headers: Headers, token: str) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and is_same(given, token)

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if self._is_local:
            return name == "localhost" or is_loopback(name) or name in self._names
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def refusal(code: int, error: str) -> Response:
    """An answer that says why not."""
    return JSONResponse({"error": error}, code)


def is_same(given: str, expected: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(), expected.encode())
