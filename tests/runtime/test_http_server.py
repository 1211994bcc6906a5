from __future__ import annotations

import asyncio
import os
import socket
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError
from simplenet_edge.runtime.http_server import HttpServer, listening_socket, parse_address
from tests.waiting import SOON_S, until


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


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
def test_many_slow_connections_keep_nobody_out() -> None:
    """1,100 clients that never finish their request; the descriptors of a process are often 1,024."""
    app = Starlette(routes=[Route("/", hello)])
    with HttpServer(app, "127.0.0.1", 0, head_s=3600) as server, ExitStack() as stack:
        before = open_descriptors()
        address = ("127.0.0.1", server.port)
        for _ in range(11):
            for _ in range(100):
                client = stack.enter_context(socket.create_connection(address, timeout=SOON_S))
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            with urllib.request.urlopen(f"{server.url}/", timeout=SOON_S) as answer:
                assert answer.read() == b"hello"
        until(lambda: open_descriptors() - before <= 1100 + 64 + 5)  # ours are 1,100 of them


@pytest.mark.parametrize("asked", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_that_is_slow_with_its_head_is_let_go(asked: bytes) -> None:
    app = Starlette(routes=[Route("/", hello)])
    with (
        HttpServer(app, "127.0.0.1", 0, head_s=0.2) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S) as client,
    ):
        client.sendall(asked)
        received = b""
        with suppress(ConnectionResetError):
            while chunk := client.recv(1000):
                received += chunk
        assert (b"hello" in received) == asked.endswith(b"\r\n\r\n")


def test_an_answer_may_take_its_time() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.5)
        return PlainTextResponse("at last")

    app = Starlette(routes=[Route("/", slow)])
    with HttpServer(app, "127.0.0.1", 0, head_s=0.1) as server:
        assert urllib.request.urlopen(f"{server.url}/", timeout=SOON_S).read() == b"at last"


def test_small_answers_are_sent_at_once() -> None:
    """Else the second piece of each would wait 40 ms for the client's system to confirm the first."""
    with listening_socket("127.0.0.1", 0) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=SOON_S)
        accepted, _ = listening.accept()

        async def nodelay() -> int:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
            option: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
            return option

        with client:
            assert asyncio.run(nodelay()) != 0


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SimpleNetEdgeError, match="can't be listened on"):
            HttpServer(Starlette(), "127.0.0.1", other.getsockname()[1]).__enter__()
