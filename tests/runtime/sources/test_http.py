from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest

from simplenet_edge.errors import SimpleNetEdgeError
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.sources import PushedImages, Source, open_source
from tests.waiting import SOON_S, until

PART = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PNG, JPEG = (cv2.imencode(suffix, PART)[1].tobytes() for suffix in (".png", ".jpg"))


def verdict(record: FrameRecord) -> FrameResult:
    """Nobody inspects anything here; that the frame came is in the reason."""
    shape = None if record.image is None else record.image.shape
    return FrameResult(record, "bundle", 0.5, None, record.error or f"looked at {shape}", "engine")


@contextmanager
def line(source: Source) -> Iterator[list[FrameRecord]]:
    """A line that answers each record of an open source."""
    seen: list[FrameRecord] = []

    def work() -> None:
        for record in source:
            seen.append(record)
            assert record.reply is not None
            record.reply(verdict(record))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        source.stop()
        thread.join(SOON_S)
        assert not thread.is_alive()


@pytest.fixture
def source() -> Iterator[PushedImages]:
    with PushedImages("127.0.0.1", 0, answer_s=SOON_S) as opened:
        yield opened


def post(url: str, data: bytes) -> httpx.Response:
    return httpx.post(url, content=data, timeout=SOON_S)


class Later:
    """A post in a thread of its own."""

    def __init__(self, url: str, data: bytes) -> None:
        self.answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._post, args=(url, data))
        self._thread.start()

    def _post(self, url: str, data: bytes) -> None:
        self.answer = post(url, data)

    def status(self) -> int:
        self._thread.join(SOON_S)
        assert self.answer is not None
        return self.answer.status_code


def test_an_image_gets_its_verdict(source: PushedImages) -> None:
    with line(source) as seen:
        for i, data in enumerate((PNG, JPEG)):
            answer = post(source.posts.url, data)
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            assert found == verdict(seen[i]).to_dict()
            assert (found["name"], found["frame_id"]) == (f"push#{i}", i)
            assert found["reason"] == "looked at (48, 64, 3)"
    np.testing.assert_array_equal(seen[0].image, PART)


@pytest.mark.parametrize("data", [b"", b"no image", PNG[:-9]])
def test_what_is_no_image_is_refused_and_counts_as_no_frame(source: PushedImages, data: bytes) -> None:
    with line(source) as seen:
        answer = post(source.posts.url, data)
        assert answer.status_code == 400
        assert "image" in answer.json()["error"]
    assert seen == []


def test_what_is_too_large_is_refused(source: PushedImages) -> None:
    source.posts.max_bytes = len(PNG) - 1
    assert post(source.posts.url, PNG).status_code == 413
    pieces = iter([PNG[:100], PNG[100:]])  # without a length in the head
    assert httpx.post(source.posts.url, content=pieces, timeout=SOON_S).status_code == 413


@pytest.fixture
def half(source: PushedImages) -> Iterator[socket.socket]:
    """A connection on which half a post was sent."""
    url = httpx.URL(source.posts.url)
    with socket.create_connection((url.host, url.port or 0), timeout=SOON_S) as connection:
        connection.sendall(b"POST /inspect HTTP/1.1\r\nHost: line\r\nContent-Length: 100\r\n\r\nhalf")
        until(lambda: bool(source.posts._bodies))
        yield connection


def test_a_client_that_goes_in_the_middle_leaves_nothing(source: PushedImages, half: socket.socket) -> None:
    half.close()
    until(lambda: not source.posts._bodies)
    with line(source) as seen:
        assert post(source.posts.url, PNG).status_code == 200
    assert len(seen) == 1


def test_a_client_that_still_sends_at_the_end_is_told_so(source: PushedImages, half: socket.socket) -> None:
    source.__exit__(None, None, None)
    assert half.recv(1000).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "", 405), ("POST", "/more", 404)])
def test_other_requests(source: PushedImages, method: str, path: str, status: int) -> None:
    assert httpx.request(method, source.posts.url + path, timeout=SOON_S).status_code == status


def waiting(source: PushedImages) -> Callable[[int], bool]:
    return lambda count: source._waiting.qsize() == count


def test_when_too_many_wait_more_are_refused_and_the_rest_is_answered(source: PushedImages) -> None:
    posts = [Later(source.posts.url, PNG) for _ in range(8)]
    until(lambda: waiting(source)(8))
    refused = post(source.posts.url, PNG)
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    with line(source):
        assert [one.status() for one in posts] == [200] * 8
        assert post(source.posts.url, PNG).status_code == 200


def test_without_a_verdict_in_time_the_client_is_told_and_the_frame_still_comes(source: PushedImages) -> None:
    source.posts.answer_s = 0.05
    answer = post(source.posts.url, PNG)
    assert answer.status_code == 504
    record = next(iter(source))
    assert record.reply is not None
    record.reply(verdict(record))  # nobody hears it, and that hurts nobody


def test_those_that_wait_at_the_end_are_told_so() -> None:
    with PushedImages("127.0.0.1", 0, answer_s=SOON_S) as source:
        one = Later(source.posts.url, PNG)
        until(lambda: waiting(source)(1))
        record = next(iter(source))
    assert one.status() == 503
    assert one.answer is not None
    assert "the line has ended" in one.answer.json()["error"]
    assert record.reply is not None
    record.reply(verdict(replace(record, frame_id=7)))  # too late


def test_a_web_page_can_t_post(source: PushedImages) -> None:
    for headers in ({"Origin": "http://elsewhere"}, {"Sec-Fetch-Site": "cross-site"}):
        assert httpx.post(source.posts.url, content=b"x", headers=headers).status_code == 403


def test_a_port_that_is_taken_is_an_error(source: PushedImages) -> None:
    port = httpx.URL(source.posts.url).port
    with pytest.raises(SimpleNetEdgeError, match="can't be listened on"):
        open_source(f"push://127.0.0.1:{port}").__enter__()


def test_slow_posts_starve_nobody(source: PushedImages) -> None:
    """Twenty clients that send the half of an image, and one that sends it in full."""
    head = f"POST /inspect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PNG)}\r\n\r\n".encode()
    port = urlsplit(source.posts.url).port or 0
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=SOON_S))
            client.sendall(head + PNG[: len(PNG) // 2])
        with line(source):
            assert httpx.post(source.posts.url, content=PNG, timeout=SOON_S).status_code == 200
