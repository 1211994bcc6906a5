"""Who may ask the monitor: under which names, and, off the loopback address, with which token. Needs starlette.

A program sends the token as `Authorization: Bearer TOKEN`. A browser posts it once to `/login` and gets a cookie, which
no script and no other site can use. Nothing here allows other origins.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simplenet_edge.runtime.http_server import is_loopback

__all__ = ["Guard", "refusal"]

_LOGIN_PAGE = Path(__file__).parent / "page" / "login.html"
_COOKIE = "simplenet_edge"
_MOST_LOGIN_BYTES = 1024
_OPEN_PATHS = frozenset({"/health", "/icon.svg", "/monitor.css"})  # of /health only whether it is healthy
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
        if is_known or scope["path"] in _OPEN_PATHS:
            return self._app
        if scope["path"] == "/login" and scope["method"] == "POST":
            return await self._login(Request(scope, receive))
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return FileResponse(_LOGIN_PAGE, 401)
        return JSONResponse({"error": "the token is missing"}, 401, {"www-authenticate": "Bearer"})

    async def _login(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_LOGIN_BYTES:
                return refusal(413, "no token is as long as that")
        given = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0]
        if self._token is None or not _equal(given, self._token):
            return FileResponse(_LOGIN_PAGE, 401)
        answer = Response(status_code=303, headers={"location": "./"})
        answer.set_cookie(_COOKIE, _key(self._token), httponly=True, samesite="strict")
        return answer

    def _is_known(self, headers: Headers, token: str) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _equal(given, token):
            return True
        return _equal(cookie_parser(headers.get("cookie", "")).get(_COOKIE, ""), _key(token))

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


def _key(token: str) -> str:
    return hmac.new(token.encode(), b"page", hashlib.sha256).hexdigest()


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
