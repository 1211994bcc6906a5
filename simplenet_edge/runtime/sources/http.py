"""Verdicts that are asked for over HTTP: what is posted becomes a frame, and its result the answer."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from simplenet_edge.errors import DataError, SimpleNetEdgeError, SourceError
from simplenet_edge.runtime.http_server import HttpServer
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.sources.base import Source, utc_now
from simplenet_edge.runtime.sources.encoded import MAX_IMAGE_BYTES, decode_image

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Posts", "PushedImages", "Reply"]

Reply = Callable[[FrameResult], None]

_TICK_S = 0.2
_MOST_WAITING = 8  # decoded images, which may be large


class Posts:
    """A context manager that answers each `POST path` with the result that `asked` brings about, as JSON.

    `asked` gets the body and the reply to call, in a thread of its own; it raises DataError for a body that can't be
    used (status 400) and SourceError where too many wait (503). Without a result in `answer_s` the status is 504.
    """

    def __init__(self, host: str, port: int, path: str, asked: Callable[[bytes, Reply], None], answer_s: float) -> None:
        self._address = (host, port)
        self._path = path
        self._asked = asked
        self._answer_s = answer_s
        self._server: HttpServer | None = None

    @property
    def url(self) -> str:
        """Where to post."""
        assert self._server is not None, "not open"
        return f"{self._server.url}{self._path}"

    def __enter__(self) -> Posts:
        try:
            from starlette.applications import Starlette
            from starlette.routing import Route
        except ImportError as error:
            raise SimpleNetEdgeError(
                f"taking posts needs {error.name}; run: pip install 'simplenet-edge[serve]'"
            ) from error
        routes = [Route(self._path, self._answer, methods=["POST"])]
        self._server = HttpServer(Starlette(routes=routes), *self._address).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(kind, error, trace)

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_IMAGE_BYTES:
                return JSONResponse({"error": f"more than {MAX_IMAGE_BYTES >> 20} MiB; send it smaller"}, 413)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[FrameResult] = loop.create_future()

        def set_result(found: FrameResult) -> None:
            if not result.done():
                result.set_result(found)

        def reply(found: FrameResult) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(set_result, found)

        try:
            await asyncio.to_thread(self._asked, bytes(body), reply)
            return JSONResponse((await asyncio.wait_for(result, self._answer_s)).to_dict())
        except DataError as error:
            return JSONResponse({"error": str(error)}, 400)
        except SourceError as error:
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
        except asyncio.TimeoutError:
            return JSONResponse({"error": f"no verdict within {self._answer_s:g} s"}, 504)


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

    def _asked(self, body: bytes, reply: Reply) -> None:
        if self._waiting.full():  # before it costs anything
            raise SourceError(f"{_MOST_WAITING} images wait for their verdicts already; send more slowly")
        record = FrameRecord(0, "", utc_now(), decode_image(body), reply=reply)
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            raise SourceError(f"{_MOST_WAITING} images wait for their verdicts already; send more slowly") from None

    def __iter__(self) -> Iterator[FrameRecord]:
        frame_id = 0
        while not self.stopping.is_set():
            try:
                record = self._waiting.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            yield replace(record, frame_id=frame_id, name=f"{self.name}#{frame_id}")
            frame_id += 1
