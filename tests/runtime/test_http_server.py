from __future__ import annotations

import socket
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError
from simplenet_edge.runtime.http_server import HttpServer, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9", ("::1", 9)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "8080a", "-1", "65536", "host:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="expected an address"):
        parse_address(text)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def test_serves_until_the_end_and_gives_the_port_back() -> None:
    app = Starlette(routes=[Route("/", hello)])
    for _ in range(2):
        with HttpServer(app, "127.0.0.1", 0) as server, urllib.request.urlopen(f"{server.url}/", timeout=30) as answer:
            assert answer.read() == b"hello"
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{server.url}/", timeout=30)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SimpleNetEdgeError, match="can't be listened on"):
            HttpServer(Starlette(), "127.0.0.1", other.getsockname()[1]).__enter__()
