"""Who may ask the monitor: as `runtime.http_guard`, and with a cookie for browsers. Needs starlette.

A browser posts the token once to `/login` and gets a cookie, which no script and no other site can use.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope

from simplenet_edge.runtime.http_guard import Guard, is_same, refusal

__all__ = ["PageGuard"]

_LOGIN_PAGE = Path(__file__).parent / "page" / "login.html"
_COOKIE = "simplenet_edge"
_MOST_LOGIN_BYTES = 1024


class PageGuard(Guard):
    """A guard that shows a browser without a token where to give it."""

    open_paths = frozenset({"/health", "/icon.svg", "/monitor.css"})  # of /health only whether it is healthy

    async def _stranger(self, scope: Scope, receive: Receive) -> ASGIApp:
        if scope["path"] == "/login" and scope["method"] == "POST":
            return await self._login(Request(scope, receive))
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return FileResponse(_LOGIN_PAGE, 401)
        return await super()._stranger(scope, receive)

    async def _login(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_LOGIN_BYTES:
                return refusal(413, "no token is as long as that")
        given = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0]
        if self._token is None or not is_same(given, self._token):
            return FileResponse(_LOGIN_PAGE, 401)
        answer = Response(status_code=303, headers={"location": "./"})
        answer.set_cookie(_COOKIE, _key(self._token), httponly=True, samesite="strict")
        return answer

    def _is_known(self, headers: Headers, token: str) -> bool:
        cookie = cookie_parser(headers.get("cookie", "")).get(_COOKIE, "")
        return super()._is_known(headers, token) or is_same(cookie, _key(token))


def _key(token: str) -> str:
    return hmac.new(token.encode(), b"page", hashlib.sha256).hexdigest()
