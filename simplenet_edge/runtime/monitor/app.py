"""The HTTP interface of the monitor. Needs starlette and prometheus-client.

    /                        the page; works offline
    /health                  200 where the line inspects, otherwise 503; JSON with the reasons
    /metrics                 Prometheus
    /api/status              LineSnapshot.to_dict(), and what the page must know of the monitor itself
    /api/history             ?camera=NAME&since=NUMBER: the result to show of each camera, and the scores that are new
    /api/frame/NAME.jpg      the picture of that result; ?heat=0 without the map
    /api/hours               the counts of the last seven days by hour
    /api/gallery             the last NG and INVALID results; /api/gallery/ID.jpg?heat=0 without the map
    POST /api/swap           load the model anew
    POST /api/recipe         ?name=NAME: the recipe, from now on, of parts that name none
    POST /api/shift          count the shift anew
    POST /api/teach          {"good": [...], "bad": [...], "by": NAME}: pictures that the gallery calls `kept`

Who may ask is the business of `guard`. A POST needs the header X-Simplenet-Edge: 1, which forms of other sites don't
send.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simplenet_edge.errors import LessonRefused, RecipeError, SimpleNetEdgeError
from simplenet_edge.runtime.http_guard import refusal
from simplenet_edge.runtime.monitor.guard import PageGuard
from simplenet_edge.runtime.monitor.metrics import CONTENT_TYPE_LATEST, metrics_text
from simplenet_edge.runtime.monitor.sink import MonitorSink
from simplenet_edge.runtime.snapshot import STALE_S
from simplenet_edge.runtime.status import LineStatus
from simplenet_edge.runtime.teach import Teach

__all__ = ["create_app"]

_BODY_BYTES = 2**16
_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def create_app(
    status: LineStatus,
    sink: MonitorSink,
    swap: Callable[[], str] | None,
    select: Callable[[str], str] | None,
    teach: Teach | None,
    host: str,
    token: str | None,
) -> Starlette:
    """The application, as it is served on the address `host` to those who have the token."""
    line = _Line(status, sink, swap, select, teach)
    routes = [
        Route("/", _Asset(_PAGE / "index.html"), methods=["GET"]),
        *(
            Route(f"/{path.name}", _Asset(path), methods=["GET"])
            for path in sorted(_PAGE.iterdir())
            if path.suffix in _TYPES and path.name != "login.html"
        ),
        Route("/health", line.health),
        Route("/metrics", line.metrics),
        Route("/api/status", line.status),
        Route("/api/history", line.history),
        Route("/api/frame/{camera:path}.jpg", line.frame),
        Route("/api/hours", line.hours),
        Route("/api/gallery", line.gallery),
        Route("/api/gallery/{id}.jpg", line.gallery_picture),
        Route("/api/swap", line.swap, methods=["POST"]),
        Route("/api/recipe", line.recipe, methods=["POST"]),
        Route("/api/shift", line.shift, methods=["POST"]),
        Route("/api/teach", line.teach, methods=["POST"]),
    ]
    middleware = [Middleware(PageGuard, host=host, token=token)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _say_error})


class _Asset:
    """One file of the page, as an ASGI application. Read once: an upgrade of the package can't mix two versions."""

    def __init__(self, path: Path) -> None:
        self._response = Response(path.read_bytes(), media_type=_TYPES[path.suffix])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope, receive, send)


class _Line:
    """What is asked of the line. Coroutines do what takes no time; pictures and swaps go to other threads."""

    def __init__(
        self,
        status: LineStatus,
        sink: MonitorSink,
        swap: Callable[[], str] | None,
        select: Callable[[str], str] | None,
        teach: Teach | None,
    ) -> None:
        self._status = status
        self._sink = sink
        self._swap = swap
        self._select = select
        self._teach = teach
        self._swapping = threading.Lock()
        self._run = secrets.token_hex(8)

    async def health(self, request: Request) -> Response:
        found = self._status.snapshot().to_dict()
        content = {"healthy": found["healthy"]}
        if request.state.is_known:
            content |= {"state": found["state"], "reasons": found["problems"], "alarms": found["alarms"]}
        return JSONResponse(content, 200 if found["healthy"] else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(metrics_text(self._status), headers={"content-type": CONTENT_TYPE_LATEST})

    async def status(self, request: Request) -> Response:
        found = self._status.snapshot().to_dict()
        about = {
            "run": self._run,
            "can_swap": self._swap is not None,
            "can_select": self._select is not None,
            "can_teach": self._teach is not None,
            "problems": found["problems"],
            "silent_s": STALE_S,
        }
        return JSONResponse({**found, "monitor": about})

    async def history(self, request: Request) -> Response:
        text = request.query_params.get("since", "0")
        if not _is_number(text):
            return refusal(400, f"since must be the sequence number of an earlier answer, not {text!r}")
        history = self._sink.history(int(text), request.query_params.get("camera"))
        return JSONResponse({"run": self._run, **history})

    def frame(self, request: Request) -> Response:
        camera = request.path_params["camera"]
        return _jpeg(self._sink.picture(camera, _heat(request)), f"there is no image of camera {camera!r} yet")

    async def hours(self, request: Request) -> Response:
        return JSONResponse({"cameras": self._status.hours()})

    async def gallery(self, request: Request) -> Response:
        return JSONResponse({"run": self._run, **self._sink.gallery.to_dict()})

    async def gallery_picture(self, request: Request) -> Response:
        entry_id = request.path_params["id"]
        if not _is_number(entry_id):
            return refusal(404, "pictures have numbers; /api/gallery lists them")
        jpeg = self._sink.gallery.jpeg(int(entry_id), _heat(request))
        return _jpeg(jpeg, f"picture {entry_id} is not kept (any more)")

    def recipe(self, request: Request) -> Response:
        if self._select is None:
            return refusal(404, "this line was started without a way to change its recipe")
        _require_header(request)
        name = request.query_params.get("name")
        if name is None:
            return refusal(400, "name the recipe: /api/recipe?name=NAME")
        try:
            return JSONResponse({"text": f"recipe {self._select(name)} is selected"})
        except RecipeError as error:
            return refusal(404, str(error))

    async def shift(self, request: Request) -> Response:
        _require_header(request)
        self._status.start_shift()
        return JSONResponse({"text": "the shift is counted anew"})

    async def teach(self, request: Request) -> Response:
        if self._teach is None:
            return refusal(
                404, "this line can't be taught: start it with --keep FOLDER, where marked pictures come from"
            )
        _require_header(request)
        try:
            good, bad, by = _lesson(await _body(request))
        except ValueError as error:
            return refusal(400, f'expected {{"good": [NAME...], "bad": [NAME...], "by": NAME}}, found {error}')
        try:
            return JSONResponse({"text": await run_in_threadpool(self._teach, good, bad, by)})
        except LessonRefused as error:
            return JSONResponse({"error": str(error), "pictures": list(error.pictures)}, 409)
        except SimpleNetEdgeError as error:
            return refusal(500, str(error))

    async def swap(self, request: Request) -> Response:
        if self._swap is None:
            return refusal(404, "this line was started without a way to swap its model")
        _require_header(request)
        if not self._swapping.acquire(blocking=False):
            return refusal(409, "a swap is under way already")
        try:
            return JSONResponse({"text": await run_in_threadpool(self._swap)})
        except SimpleNetEdgeError as error:
            return refusal(500, str(error))
        finally:
            self._swapping.release()


async def _body(request: Request) -> bytes:
    """Raises ValueError for one that is too large."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _BODY_BYTES:
            raise ValueError(f"more than {_BODY_BYTES} bytes")
    return data


def _lesson(data: bytes) -> tuple[list[str], list[str], str]:
    """The names of good and bad pictures and of who marked them. Raises ValueError."""
    try:
        values = json.loads(data)
        good, bad, by = values.get("good", []), values.get("bad", []), values["by"]
    except (ValueError, RecursionError, KeyError, AttributeError) as error:
        raise ValueError(f"other JSON ({type(error).__name__})") from error
    if not isinstance(by, str) or not all(isinstance(names, list) for names in (good, bad)):
        raise ValueError("other types")
    if not all(isinstance(name, str) for name in (*good, *bad)):
        raise ValueError("names that are no text")
    return good, bad, by


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,18}", text) is not None


def _require_header(request: Request) -> None:
    if request.headers.get("x-simplenet-edge") != "1":
        raise HTTPException(403, "a POST needs the header X-Simplenet-Edge: 1")


def _heat(request: Request) -> bool:
    heat = request.query_params.get("heat", "1")
    if heat not in ("0", "1"):
        raise HTTPException(400, f"heat must be 0 or 1, not {heat!r}")
    return heat == "1"


async def _say_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail)


def _jpeg(data: bytes | None, error: str) -> Response:
    return refusal(404, error) if data is None else Response(data, media_type="image/jpeg")
