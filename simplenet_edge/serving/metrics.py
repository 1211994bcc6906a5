"""What the server counts, in the Prometheus text format. Base units: seconds, frames. Needs prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from simplenet_edge.serving.batcher import Batch

__all__ = ["CONTENT_TYPE_LATEST", "ServingMetrics"]

_PREFIX = "simplenet_edge_serving_"
_MODEL = ("model", "version")
_INFO = ("bundle_id", "precision", "engine")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FRAMES = (1, 2, 4, 8, 16, 32, 64)


class ServingMetrics:
    """Counters of every model and version, in a registry of their own; from any thread."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def made(kind: type[Any], name: str, text: str, labels: tuple[str, ...] = _MODEL, **options: Any) -> Any:
            return kind(_PREFIX + name, text, labels, registry=registry, **options)

        self._requests = made(Counter, "requests", "Requests to infer, by the code of their answer", (*_MODEL, "code"))
        self._frames = made(Counter, "frames", "Frames that the engine computed")
        self._failed = made(Counter, "failed_frames", "Frames of calls that the engine failed in")
        self._batch = made(Histogram, "batch_frames", "Frames in one call of the engine", buckets=_FRAMES)
        self._queue = made(Histogram, "queue_seconds", "From a request to its call of the engine", buckets=_SECONDS)
        self._compute = made(Histogram, "compute_seconds", "A call of the engine", buckets=_SECONDS)
        self._waiting = made(Gauge, "waiting_frames", "Frames that wait")
        self._threshold = made(Gauge, "threshold", "Raw score above which a frame is NG")
        self._info = made(Gauge, "model_info", "1 for what computes a model", (*_MODEL, *_INFO))

    def add_model(self, name: str, version: str, parameters: Mapping[str, Any], waiting: Callable[[], float]) -> None:
        """Show a model from the start; `waiting` gives the frames that wait whenever it is asked."""
        for family in (self._frames, self._failed, self._batch, self._queue, self._compute):
            family.labels(name, version)
        self._waiting.labels(name, version).set_function(waiting)
        self._threshold.labels(name, version).set(parameters["threshold"])
        self._info.labels(name, version, *(parameters[key] for key in _INFO)).set(1)

    def count_request(self, name: str, version: str, code: int) -> None:
        """A request that was answered with an HTTP code."""
        self._requests.labels(name, version, str(code)).inc()

    def count_batch(self, name: str, version: str, batch: Batch) -> None:
        """A call of the engine."""
        (self._failed if batch.failed else self._frames).labels(name, version).inc(batch.frames)
        self._batch.labels(name, version).observe(batch.frames)
        self._compute.labels(name, version).observe(batch.compute_s)
        for seconds in batch.queue_s:
            self._queue.labels(name, version).observe(seconds)

    def text(self) -> bytes:
        """The metrics as they are now; send them as `CONTENT_TYPE_LATEST`."""
        return generate_latest(self._registry)
