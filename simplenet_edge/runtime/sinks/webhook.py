"""Results to a web server: one HTTP POST a result, JSON as in the JSON lines; any answer of 2xx takes it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.network import NetworkSink
from simplenet_edge.runtime.sinks.spool import Spool

__all__ = ["WebhookSink"]


class WebhookSink(NetworkSink):
    """Posts to `http[s]://[user:password@]host[:port]/path`; `only="ng"` leaves out what is OK or INVALID.

    A redirection is not followed: a POST would not survive it.
    """

    def __init__(
        self, url: str, spool: Spool | None = None, *, only: Literal["ng", "all"] = "all", timeout_s: float = 5.0
    ) -> None:
        if only not in ("ng", "all"):
            raise ConfigError(f"a webhook gets 'ng' or 'all' results, not {only!r}")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(
                "expected an address such as https://host:8443/path; "
                "in a password, write : / @ # ? % as %3A %2F %40 %23 %3F %25"
            ) from error
        if parts.scheme not in ("http", "https") or not host or re.search(r"[^!-~]", f"{parts.path}{parts.query}"):
            raise ConfigError(
                "expected an address such as https://host:8443/path; write what is no ASCII, and spaces, as %20"
            )
        netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        where = f"{parts.path}?{parts.query}".strip("/?")  # either may hold a token
        told = f"/#{hashlib.sha256(where.encode()).hexdigest()[:6]}" if where else ""
        super().__init__(f"{parts.scheme}://{netloc}{told}", spool)
        self.only = only
        self._timeout_s = timeout_s
        self._url = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "simplenet-edge"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._opener = urllib.request.build_opener(_NoRedirection)

    def _prepare(self) -> None:
        """Nothing: the standard library does it."""

    def _disconnect(self) -> None:
        """Each POST has its own connection."""

    def wants(self, result: FrameResult) -> bool:
        """What `only` says."""
        return self.only == "all" or result.verdict == "NG"

    def _deliver(self, lines: Sequence[str]) -> Iterator[None]:
        for line in lines:
            request = urllib.request.Request(self._url, line.encode(), self._headers, method="POST")
            try:
                with self._opener.open(request, timeout=self._timeout_s):
                    pass
            except urllib.error.HTTPError as error:
                error.close()
                phrase = http.client.responses.get(error.code, "")  # the server's own may quote the address
                raise SinkError(f"the server answers {error.code} {phrase}; expected 2xx") from None
            except http.client.HTTPException as error:
                raise SinkError(f"the server answers no HTTP ({type(error).__name__}); see what runs there") from None
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or error
                raise SinkError(
                    f"the server takes no results ({reason}); see that it runs and can be reached"
                ) from error
            yield


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: what is a redirection then counts as the error that it is here."""
