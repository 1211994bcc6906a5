"""Verdicts that are asked for over HTTP: what is posted becomes a frame, and its result the answer."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.imaging.encoded import MAX_IMAGE_BYTES
from simplenet_edge.runtime.http_server import HttpServer, needs_serve_extra
from simplenet_edge.runtime.records import FrameRecord, FrameResult, Part
from simplenet_edge.runtime.sources.base import Source, utc_now

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Posts", "PushedImages", "Reply"]

Reply = Callable[[FrameResult], None]

_TICK_S = 0.2
_MOST_WAITING = 8  # decoded images, which may be large
_BODY_S = 30.0
_MOST_BODIES = 4  # of the largest size, half-read
_ENDED = "the line has ended; the part was not inspected"


class Posts:
    """A context manager that answers each `POST path?part_id=...&recipe=...` with the result that `asked` brings about,
    as JSON.

    `asked` gets the body, the part and the reply to call, in a thread of its own; it raises DataError for a body that
    can't be used (status 400) and SourceError where too many wait (503). Also 408: the body took longer than 30 s; 413:
    it has more than `max_bytes`; 503: `most` bodies are at hand, too many are half-read, or the line ends; 504: no
    result within `answer_s`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        asked: Callable[[bytes, Part, Reply], None],
        answer_s: float,
        most: int = _MOST_WAITING,
        max_bytes: int = MAX_IMAGE_BYTES,
    ) -> None:
        self.answer_s, self.most, self.max_bytes = answer_s, most, max_bytes
        self._address = (host, port)
        self._path = path
        self._asked = asked
        self._server: HttpServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._at_hand = 0  # this and those below are the event loop's
        self._held_bytes = 0  # of bodies that are being read
        self._bodies: set[asyncio.Future[bytes]] = set()
        self._results: set[asyncio.Future[FrameResult | None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def url(self) -> str:
        """Where to post."""
        assert self._server is not None, "not open"
        return f"{self._server.url}{self._path}"

    def __enter__(self) -> Posts:
        with needs_serve_extra("taking posts"):
            from starlette.applications import Starlette
            from starlette.routing import Route
        routes = [Route(self._path, self._answer, methods=["POST"])]
        self._server = HttpServer(Starlette(routes=routes), *self._address).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            if self._loop is not None:
                _call(self._loop, self._let_go)
            server.__exit__(kind, error, trace)

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        if "origin" in request.headers or "sec-fetch-site" in request.headers:  # browsers send them, controllers don't
            return JSONResponse({"error": "not for web pages: any of them could post parts"}, 403)

        try:
            self._require_room()
            part = _part(request)
            body = await self._read(request)
            self._require_room()
            self._at_hand += 1
            try:
                result = await self._result(body, part)
            finally:
                self._at_hand -= 1
        except _Refused as error:
            headers = {"Retry-After": "1"} if error.status == 503 else None
            return JSONResponse({"error": str(error)}, error.status, headers)
        return JSONResponse(result.to_dict())

    def _require_room(self) -> None:
        if self._at_hand >= self.most or self._server is None:
            raise _Refused(503, "the line is busy; send more slowly")

    async def _read(self, request: Request) -> bytes:
        from starlette.requests import ClientDisconnect

        body = asyncio.ensure_future(self._body(request))
        self._loop = asyncio.get_running_loop()
        self._bodies.add(body)
        try:
            return await asyncio.wait_for(body, _BODY_S)
        except asyncio.TimeoutError:
            raise _Refused(408, f"the body took longer than {_BODY_S:g} s") from None
        except ClientDisconnect:
            raise _Refused(400, "the body ended too early") from None
        except asyncio.CancelledError:
            if self._server is not None:
                raise
            raise _Refused(503, _ENDED) from None
        finally:
            self._bodies.discard(body)

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "0")
        body = bytearray()
        try:
            if int(declared) <= self.max_bytes:
                async for chunk in request.stream():
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > self.max_bytes:
                        break
                    if self._held_bytes > _MOST_BODIES * self.max_bytes:
                        raise _Refused(503, "too much is being sent at once; send more slowly")
                else:
                    return bytes(body)
        finally:
            self._held_bytes -= len(body)
        raise _Refused(413, f"more than {self.max_bytes} bytes; send it smaller")

    async def _result(self, body: bytes, part: Part) -> FrameResult:
        loop = asyncio.get_running_loop()
        if self._server is None:
            raise _Refused(503, _ENDED)
        future: asyncio.Future[FrameResult | None] = loop.create_future()
        self._results.add(future)
        try:
            await asyncio.to_thread(self._asked, body, part, lambda found: _call(loop, lambda: _set(future, found)))
            result = await asyncio.wait_for(future, self.answer_s)
        except DataError as error:
            raise _Refused(400, str(error)) from None
        except SourceError as error:
            raise _Refused(503, str(error)) from None
        except asyncio.TimeoutError:
            raise _Refused(504, f"no verdict within {self.answer_s:g} s") from None
        finally:
            self._results.discard(future)
        if result is None:
            raise _Refused(503, _ENDED)
        return result

    def _let_go(self) -> None:
        for body in self._bodies:
            body.cancel()
        for future in self._results:
            _set(future, None)


class _Refused(Exception):
    """An answer with `status` and no result."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _part(request: Request) -> Part:
    given = request.query_params
    if not given.keys() <= {"part_id", "recipe"} or len(given.multi_items()) > len(given):
        raise _Refused(400, f"expected ?part_id=...&recipe=..., each once or not at all, found ?{given}")
    try:
        return Part(given.get("part_id"), given.get("recipe"))
    except DataError as error:
        raise _Refused(400, str(error)) from None


def _set(future: asyncio.Future[FrameResult | None], result: FrameResult | None) -> None:
    if not future.done():
        future.set_result(result)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """From another thread; nothing happens where the server has ended, and its clients are gone."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        assert loop.is_closed()


class PushedImages(Source):
    """Encoded images that are posted to `/inspect`; each is answered with its verdict, none is dropped.

    Where 8 wait, more are refused with status 503.
    """

    on_demand: ClassVar[bool] = True

    def __init__(self, host: str, port: int, answer_s: float = 10.0) -> None:
        super().__init__("push")
        self.posts = Posts(host, port, "/inspect", self._asked, answer_s)
        self._waiting: queue.Queue[FrameRecord] = queue.Queue(_MOST_WAITING)

    def _open(self) -> None:
        self.posts.__enter__()

    def _close(self) -> None:
        self.stop()
        self.posts.__exit__(None, None, None)

    def _asked(self, body: bytes, part: Part, reply: Reply) -> None:
        if self._waiting.full():  # before it costs anything
            raise SourceError(f"{_MOST_WAITING} images wait for their verdicts already; send more slowly")
        came, came_s = utc_now(), time.monotonic()
        image = decode_image(body, self.bit_depth)
        record = FrameRecord(0, "", came, image, monotonic_s=came_s, part=part, reply=reply)
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            raise SourceError(f"{_MOST_WAITING} images wait for their verdicts already; send more slowly") from None

    def __iter__(self) -> Iterator[FrameRecord]:
        if not self.posts.is_open:
            raise SourceError(f"{self.name} is not open; iterate over it inside `with source:`")
        frame_id = 0
        while not self.stopping.is_set():
            try:
                record = self._waiting.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            yield replace(record, frame_id=frame_id, name=f"{self.name}#{frame_id}")
            frame_id += 1
