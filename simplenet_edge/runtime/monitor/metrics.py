"""The status of a line in the Prometheus text format. Base units: seconds, frames.

Everything is read from `LineStatus.snapshot()` when it is scraped; nothing is counted twice. Needs prometheus-client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from simplenet_edge.runtime.snapshot import (
    CameraSnapshot,
    LineSnapshot,
    LineState,
    ModelSnapshot,
    RecipesSnapshot,
    ShadowSnapshot,
    SinkSnapshot,
)
from simplenet_edge.runtime.status import LineStatus

__all__ = ["CONTENT_TYPE_LATEST", "metrics_text"]

_PREFIX = "simplenet_edge_"
_INFO = ("bundle_id", "name", "engine", "provider", "precision")
_QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "max": "1"}

_Samples = Iterable[tuple[tuple[str, ...], float | None]]


def metrics_text(status: LineStatus) -> bytes:
    """The metrics as they are now; send them as `CONTENT_TYPE_LATEST`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_LineCollector(status))
    return generate_latest(registry)


class _LineCollector(Collector):
    def __init__(self, status: LineStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        snapshot = self._status.snapshot()
        yield from _line(snapshot)
        yield from _cameras(snapshot.cameras)
        yield from _sinks(snapshot.sinks)
        if snapshot.model is not None:
            yield from _model(snapshot.model)
        if snapshot.recipes is not None:
            yield from _recipes(snapshot.recipes)
        if snapshot.shadow is not None:
            yield from _shadow(snapshot.shadow)


def _line(snapshot: LineSnapshot) -> Iterator[Metric]:
    yield _gauge("healthy", "1 where the line inspects, as /health says", [], [((), float(not snapshot.problems))])
    yield _gauge("uptime_seconds", "Since the line was started", [], [((), snapshot.uptime_s)])
    samples = [((state,), float(state == snapshot.state)) for state in get_args(LineState)]
    yield _gauge("state", "1 for the state that the line is in", ["state"], samples)
    alarms = {(alarm.kind, alarm.camera): 1.0 for alarm in snapshot.alarms}
    yield _gauge("alarm", "1 for each alarm that stands", ["kind", "camera"], alarms.items())


def _cameras(cameras: dict[str, CameraSnapshot]) -> Iterator[Metric]:
    each = cameras.items()
    frames = [((name, v.upper()), getattr(camera, v)) for name, camera in each for v in ("ok", "ng", "invalid")]
    yield _counter("frames", "Frames by verdict", ["camera", "verdict"], frames)
    causes = [((name, cause), n) for name, camera in each for cause, n in camera.invalid_by_cause.items()]
    yield _counter("invalid", "INVALID frames by cause", ["camera", "cause"], causes)
    dropped = [((name,), camera.dropped) for name, camera in each]
    yield _counter("dropped_frames", "Frames that came while the line was busy", ["camera"], dropped)
    reconnects = [((name,), camera.reconnects) for name, camera in each]
    yield _counter("reconnects", "Times that a camera came back", ["camera"], reconnects)
    connected = [((name,), float(camera.connected)) for name, camera in each]
    yield _gauge("camera_connected", "1 where the camera gives frames", ["camera"], connected)
    fps = [((name,), camera.fps) for name, camera in each]
    yield _gauge("fps", "Results per second, over the last 512", ["camera"], fps)
    ages = [((name,), camera.last_result_age_s) for name, camera in each]
    yield _gauge("last_result_age_seconds", "Since the camera's last result", ["camera"], ages)
    latencies = [
        ((name, quantile), getattr(camera.latency_ms, key) / 1000)
        for name, camera in each
        if camera.latency_ms is not None
        for key, quantile in _QUANTILES.items()
    ]
    text = "From a frame's arrival to its verdict, quantiles of the last 512"
    yield _gauge("latency_seconds", text, ["camera", "quantile"], latencies)


def _sinks(sinks: dict[str, SinkSnapshot]) -> Iterator[Metric]:
    each = sinks.items()
    yield _counter("sink_written", "Results written", ["sink"], [((name,), sink.written) for name, sink in each])
    yield _counter("sink_lost", "Results lost", ["sink"], [((name,), sink.lost) for name, sink in each])
    yield _gauge("sink_waiting", "Results that wait", ["sink"], [((name,), sink.waiting) for name, sink in each])
    failing = [((name,), float(sink.error is not None)) for name, sink in each]
    yield _gauge("sink_failing", "1 where the last write failed", ["sink"], failing)


def _model(model: ModelSnapshot) -> Iterator[Metric]:
    labels = {key: str(getattr(model, key)) for key in _INFO}
    yield InfoMetricFamily(f"{_PREFIX}model", "What decides", value=labels)
    yield _gauge("threshold", "Raw score above which a frame is NG", [], [((), model.threshold)])
    yield _counter("model_swaps", "Times that the model was replaced", [], [((), model.swaps)])
    failed = float(model.swap_error is not None)
    yield _gauge("model_swap_failing", "1 where the last swap failed", [], [((), failed)])


def _recipes(recipes: RecipesSnapshot) -> Iterator[Metric]:
    for name, text, chosen in (
        ("recipe_selected", "1 for the recipe of frames that name none", (recipes.selected,)),
        ("recipe_loaded", "1 where the recipe's model is loaded", recipes.loaded),
        ("recipe_failing", "1 where the recipe's model did not load", recipes.errors),
    ):
        yield _gauge(name, text, ["recipe"], [((recipe,), float(recipe in chosen)) for recipe in recipes.names])


def _shadow(shadow: ShadowSnapshot) -> Iterator[Metric]:
    yield InfoMetricFamily(f"{_PREFIX}shadow", "What judges beside it", value={"bundle_id": shadow.bundle_id})
    yield _counter("shadow_compared", "Frames that both judged", [], [((), shadow.compared)])
    directions = [((way,), getattr(shadow, way)) for way in ("ok_to_ng", "ng_to_ok")]
    yield _counter("shadow_disagreed", "Frames that the shadow judged otherwise", ["direction"], directions)
    yield _counter("shadow_skipped", "Frames that the shadow had no time for", [], [((), shadow.skipped)])
    failing = float(shadow.error is not None)
    yield _gauge("shadow_failing", "1 where the shadow has failed", [], [((), failing)])


def _counter(name: str, text: str, labels: list[str], samples: _Samples) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: list[str], samples: _Samples) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family
