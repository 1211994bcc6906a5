from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.errors import ConfigError, SinkError
from simplenet_edge.runtime.sinks import Spool, WebhookSink
from simplenet_edge.runtime.snapshot import SinkSnapshot
from tests.runtime.sinks.results import result, worker
from tests.servers import free_port
from tests.waiting import until


class Server(ThreadingHTTPServer):
    """Keeps what is posted to it, and answers with `status`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        self.posted: list[tuple[str, dict[str, str], Any]] = []
        self.refused = 0
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def ids(self) -> list[int]:
        return [body["frame_id"] for _, _, body in self.posted]

    def end(self) -> None:
        self.gate.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.server.gate.wait(60)
        if 200 <= self.server.status < 300:
            self.server.posted.append((self.path, dict(self.headers), body))
        else:
            self.server.refused += 1
        self.send_response(self.server.status, f"no {self.path}" if self.server.status == 500 else None)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Not to the test's output."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


def test_posts_each_result_as_json(server: Server) -> None:
    given = result(1, "NG")
    server.status = 204
    with WebhookSink(server.url + "?line=4") as sink:
        sink.write(given)
        sink.write(result(2))
        sink.write(result(3, "INVALID"))
    path, headers, body = server.posted[0]
    assert (path, body) == ("/hook?line=4", given.to_dict())
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers
    assert server.ids() == [1, 2, 3]


def test_only_ng_where_asked(server: Server) -> None:
    with worker(WebhookSink(server.url, only="ng"), wait=True) as line:
        for given in (result(1), result(2, "NG"), result(3, "INVALID")):
            line.submit(given)
    assert server.ids() == [2]


def test_user_and_password_go_into_a_header_and_nowhere_else(server: Server) -> None:
    with WebhookSink(server.url.replace("//", "//cell:p%40ss@") + "?token=1234") as sink:
        sink.write(result(1))
    _, headers, _ = server.posted[0]
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"cell:p@ss").decode()
    place = server.url.removesuffix("/hook")
    assert re.fullmatch(re.escape(place) + "/#[0-9a-f]{6}", sink.name)  # without the secrets of path and query
    assert "1234" not in sink.name


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500, 503])
def test_what_is_not_2xx_is_a_failure(server: Server, status: int) -> None:
    server.status = status
    with WebhookSink(server.url) as sink, pytest.raises(SinkError, match=f"answers {status} .*expected 2xx"):
        sink.write(result(1))
    assert server.refused == 1


def test_what_was_refused_waits_in_the_spool_and_comes_in_order_and_once(tmp_path: Path, server: Server) -> None:
    sink = WebhookSink(server.url, Spool(tmp_path))
    with worker(sink, wait=False) as line:
        line.submit(result(0))
        until(lambda: server.ids() == [0])
        server.status = 503
        for n in range(1, 40):
            line.submit(result(n))
        until(lambda: server.refused > 2)
        until(lambda: line.snapshot().waiting == 39)
        assert "503" in (line.snapshot().error or "")
        server.status = 200
        until(lambda: line.snapshot().waiting == 0)
        assert line.snapshot() == SinkSnapshot(40, 0, 0, None)
    assert server.ids() == list(range(40))


def test_what_a_run_could_not_deliver_the_next_one_does(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with worker(WebhookSink(url, Spool(tmp_path)), wait=True) as line:
        for n in range(30):
            line.submit(result(n))
    assert line.snapshot().waiting == 30
    server = Server(port)
    with worker(WebhookSink(url, Spool(tmp_path)), wait=True) as line:
        line.submit(result(30))
        until(lambda: line.snapshot().waiting == 0)
    assert server.ids() == list(range(31))
    server.end()


def test_a_spool_that_overflows_loses_the_oldest_and_says_so(tmp_path: Path) -> None:
    sink = WebhookSink(f"http://127.0.0.1:{free_port()}/", Spool(tmp_path, 64 * 1024))
    with worker(sink, wait=False) as line:
        for n in range(400):
            line.submit(result(n))
        until(lambda: line.snapshot().written == 400)
        lost = line.snapshot().lost
        assert lost > 0
        assert line.snapshot().waiting == 400 - lost


def test_a_recorded_line_fails_where_its_spool_overflows(tmp_path: Path) -> None:
    sink = WebhookSink(f"http://127.0.0.1:{free_port()}/", Spool(tmp_path, 64 * 1024))

    def run() -> None:
        with worker(sink, wait=True) as line:
            for n in range(400):
                line.submit(result(n))

    with pytest.raises(SinkError, match="make its spool larger"):
        run()


def test_a_full_disk_does_not_stop_the_sending(small_disk: Path, server: Server) -> None:
    with WebhookSink(server.url, Spool(small_disk / "spool")) as sink:
        (small_disk / "more").write_bytes(bytes(64 * 1024))
        with pytest.raises(OSError, match="No space"):
            (small_disk / "all").write_bytes(bytes(2**20))
        sink.write(result(1))
        sink.write(result(2))
        assert server.ids() == [1, 2]
        server.status = 500
        with pytest.raises(SinkError, match="500"):
            sink.write(result(3))


def test_a_server_that_never_answers_is_given_up(server: Server) -> None:
    server.gate.clear()
    with WebhookSink(server.url, timeout_s=0.1) as sink, pytest.raises(SinkError, match="timed out"):
        sink.write(result(1))


def test_a_server_that_is_not_there() -> None:
    with WebhookSink(f"http://127.0.0.1:{free_port()}/") as sink, pytest.raises(SinkError, match="refused"):
        sink.write(result(1))


def test_what_the_server_says_of_the_address_is_not_repeated(server: Server) -> None:
    server.status = 500
    with WebhookSink(f"{server.url}/secret?key=secret") as sink, pytest.raises(SinkError) as caught:
        sink.write(result(1))
    assert str(caught.value) == "the server answers 500 Internal Server Error; expected 2xx"


UNSENDABLE = ["http://host/secret path", "http://host/?secret=a b", "http://host/secret\xe9"]
"""Python's own refusal, at each try, would quote them."""


@pytest.mark.parametrize(
    "url", ["ftp://host/", "http://", "http:///path", "http://host:99999/", "file:///etc/passwd", *UNSENDABLE]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="expected an address") as caught:
        WebhookSink(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="'ng' or 'all'"):
        WebhookSink("http://host", only="ok")  # type: ignore[arg-type]
