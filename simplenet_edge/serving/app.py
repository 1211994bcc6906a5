"""The HTTP interface of the server: KServe's Open Inference Protocol (v2) over REST. Needs the extra `serve`.

    GET  /v2                                     the server and its extensions
    GET  /v2/health/live, /v2/health/ready       200, or 503 once it is about to end; open to all
    GET  /v2/models/NAME[/versions/V]            inputs, outputs, bundle id, precision, engine, threshold
    GET  /v2/models/NAME[/versions/V]/ready
    POST /v2/models/NAME[/versions/V]/infer      the bodies of `serving.protocol`; without a version, the newest
    POST /v2/repository/index                    all models and versions
    GET  /metrics                                Prometheus

Errors are `{"error": TEXT}`. Who may ask is the business of `runtime.http_guard`; a token is enough for any host name.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import Future
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simplenet_edge import __version__
from simplenet_edge.errors import SimpleNetEdgeError
from simplenet_edge.runtime.http_guard import Guard, refusal
from simplenet_edge.serving.batcher import Unavailable
from simplenet_edge.serving.metrics import CONTENT_TYPE_LATEST, ServingMetrics
from simplenet_edge.serving.models import Models, ModelVersion
from simplenet_edge.serving.protocol import HEADER_LENGTH, Refused, encode_response, json_limit, read_request
from simplenet_edge.spec import Prediction

__all__ = ["ServingApp"]

_CLIENT_LEFT = 499  # an answer that nobody gets; so do others count it


class _ApiGuard(Guard):
    """Without a browser's cookie, a name that points here is no way in where there is a token."""

    open_paths = frozenset({"/v2/health/live", "/v2/health/ready"})

    def _is_ours(self, host: str) -> bool:
        return self._token is not None or super()._is_ours(host)


class ServingApp:
    """The application of some models. `is_ready` turns false when the server is about to end.

    A request that is not answered after `timeout_s`, its upload included, is given up.
    """

    def __init__(self, models: Models, metrics: ServingMetrics, timeout_s: float) -> None:
        self.is_ready = True
        self._models = models
        self._metrics = metrics
        self._timeout_s = timeout_s

    def create(self, host: str, token: str | None) -> Starlette:
        """The ASGI application, as it is served on the address `host` to those who have the token."""
        routes = [
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/metrics", self._metrics_text),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(path, self._about),
                Route(f"{path}/ready", self._model_ready),
                Route(f"{path}/infer", self._infer, methods=["POST"]),
            ]
        handlers = {HTTPException: _say_error}
        return Starlette(
            routes=routes, middleware=[Middleware(_ApiGuard, host=host, token=token)], exception_handlers=handlers
        )

    async def _server(self, request: Request) -> Response:
        return JSONResponse(
            {"name": "simplenet-edge", "version": __version__, "extensions": ["binary_tensor_data", "parameters"]}
        )

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        return JSONResponse({"ready": self.is_ready}, 200 if self.is_ready else 503)

    async def _index(self, request: Request) -> Response:
        return JSONResponse(
            [{"name": one.name, "version": one.version, "state": "READY", "reason": ""} for one in self._models]
        )

    async def _metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def _about(self, request: Request) -> Response:
        model = self._find(request)
        return JSONResponse(model.to_dict(list(self._models.versions(model.name))))

    async def _model_ready(self, request: Request) -> Response:
        content = {"name": self._find(request).name, "ready": self.is_ready}
        return JSONResponse(content, 200 if self.is_ready else 503)

    async def _infer(self, request: Request) -> Response:
        model = self._find(request)
        try:
            response = await asyncio.wait_for(self._answer(request, model), self._timeout_s)
        except asyncio.TimeoutError:
            response = refusal(503, f"not answered within {self._timeout_s:g} s; ask again later, or less often")
        except Refused as error:
            response = refusal(error.status, str(error))
        except Unavailable as error:
            response = refusal(503, str(error))
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except SimpleNetEdgeError as error:
            response = refusal(500, str(error))
        self._metrics.count_request(model.name, model.version, response.status_code)
        return response

    async def _answer(self, request: Request, model: ModelVersion) -> Response:
        """Raises Refused, Unavailable, ClientDisconnect or what the engine raises."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise Refused(f"expected a body as it is, found one in {encoding[:40]!r}; don't compress it", 415)
        max_batch = self._models.config.max_batch
        header_length = request.headers.get(HEADER_LENGTH)
        most = json_limit(model.frame_hw, max_batch)
        if header_length is not None:
            most += max_batch * math.prod(model.frame_hw) * 3
        asked = read_request(await _read_body(request, most), header_length, model.frame_hw, max_batch)
        prediction = await _unless_client_leaves(request, model.batcher.submit(asked.frames))
        pieces, json_length = encode_response(asked, prediction, model.name, model.version, model.parameters)
        headers = {} if json_length is None else {HEADER_LENGTH: str(json_length)}
        kind = "application/json" if json_length is None else "application/octet-stream"
        return Response(b"".join(pieces), headers=headers, media_type=kind)

    def _find(self, request: Request) -> ModelVersion:
        try:
            return self._models.find(request.path_params["name"], request.path_params.get("version"))
        except LookupError as error:
            raise HTTPException(404, str(error)) from error


async def _read_body(request: Request, most: int) -> bytes:
    """Raises Refused for one that is too large, ClientDisconnect where it does not come."""
    too_large = Refused(f"expected a body of at most {most} bytes, found more; send fewer frames in a request", 413)
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise too_large
    return b"".join(pieces)


async def _unless_client_leaves(request: Request, answer: Future[Prediction]) -> Prediction:
    """Wait for an answer; where the client leaves first it is cancelled. Raises ClientDisconnect, or what it raises."""
    gone = asyncio.ensure_future(_gone(request))
    wrapped = asyncio.wrap_future(answer)
    either: set[asyncio.Future[Any]] = {gone, wrapped}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not wrapped.done():
            raise ClientDisconnect
        return wrapped.result()
    finally:
        gone.cancel()
        wrapped.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _say_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail)
