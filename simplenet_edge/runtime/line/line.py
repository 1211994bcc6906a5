"""The line: frames from cameras, verdicts from one engine, results to sinks, each stage in threads of its own.

    source threads     grab, crop, preprocess                     one for each camera
    the caller's       the engines, on at most one frame of each camera at a time
    the result stage   regions, drift, deadline, counting, and handing over to the sinks
    sink threads       one for each sink

Every queue between them is bounded, and a frame that was taken is never dropped in one of them. A frame that can't be
inspected is INVALID, with the reason; it never counts as OK.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import ConfigError, EngineError, SourceError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.runtime.line.fair_queue import FairQueue
from simplenet_edge.runtime.line.inspect import Prepared, inspect, prepare
from simplenet_edge.runtime.line.model_slot import ModelSlot
from simplenet_edge.runtime.line.process import notify_systemd, signals_handled, switching_fast
from simplenet_edge.runtime.line.recipes import RecipeConfig, Recipes
from simplenet_edge.runtime.line.result_stage import ResultStage
from simplenet_edge.runtime.line.shadow import Shadow
from simplenet_edge.runtime.records import FrameRecord, FrameResult
from simplenet_edge.runtime.sinks.base import Sink
from simplenet_edge.runtime.sinks.worker import SinkWorker, WorkerTimings
from simplenet_edge.runtime.snapshot import LineState
from simplenet_edge.runtime.sources.base import Source
from simplenet_edge.runtime.status import LineStatus

__all__ = ["Line", "LineConfig", "LineTimings", "Summary", "conflicts", "run"]

_log = logging.getLogger(__name__)

_QUEUE_DEPTH = 2
_POLL_S = 0.2  # how soon a signal, a swap or an error in another thread is seen while no frame comes
_STATUS_S = 0.5


@dataclass(frozen=True)
class LineConfig:
    """How a line runs."""

    deadline_ms: float | None = None  # a verdict later than this after its frame's arrival is INVALID
    max_failures: int = 10  # engine errors in a row that end the run, for a service manager to start it afresh
    max_batch: int = 4  # frames per call of the engine
    drift: DriftConfig | None = None  # None looks neither at the images nor at the scores
    strict: bool = False  # don't start while a camera, a folder, a broker or a controller is away

    def __post_init__(self) -> None:
        if self.max_failures < 1:
            raise ConfigError(f"max_failures must be at least 1, not {self.max_failures}")
        if self.max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {self.max_batch}")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise ConfigError(f"deadline_ms must be positive, not {self.deadline_ms}")


@dataclass(frozen=True)
class LineTimings:
    """How patient a line is at its end, in seconds; `worker` is how its sinks' threads are."""

    grace_s: float = 5.0  # sinks that hold up the end for longer are closed
    camera_s: float = 5.0  # a camera's thread that doesn't come back by then is left behind
    worker: WorkerTimings = field(default_factory=WorkerTimings)


@dataclass(frozen=True)
class Summary:
    """What a run came to. `dropped` are frames of live cameras that came while the line was busy; `lost` are results
    that sinks could not deliver. `interrupted`: ended by Ctrl-C or SIGTERM, not by the end of the sources."""

    ok: int
    ng: int
    invalid: int
    dropped: int
    lost: int
    seconds: float
    interrupted: bool

    @property
    def frames(self) -> int:
        """All frames, the invalid ones too."""
        return self.ok + self.ng + self.invalid

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"frames": self.frames, **dataclasses.asdict(self)}


class Line:
    """Cameras, a model for each recipe, sinks. `run` is called once; everything else may be called from any thread
    while it runs.

    `reload` loads the model that `swap` puts in place of the present one where there is no shadow to promote. Engines
    that a swap or a recipe brings in belong to the line; the first one belongs to the caller, who may find it closed.
    Without `recipes` there is one, called like the bundle.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        detector: Detector,
        sinks: Sequence[Sink] = (),
        config: LineConfig | None = None,
        *,
        status: LineStatus | None = None,
        shadow: Shadow | None = None,
        reload: Callable[[], Detector] | None = None,
        recipes: RecipeConfig | None = None,
        timings: LineTimings | None = None,
    ) -> None:
        if found := conflicts(sources, sinks):
            raise ConfigError(found[0])
        names = [source.name for source in sources]
        self.config = config or LineConfig()
        self._timings = timings or LineTimings()
        self.status = status or LineStatus()
        self._sources = sources
        self._stop = threading.Event()
        self._model = ModelSlot(detector, shadow, reload)
        recipes = recipes or RecipeConfig(detector.bundle.manifest.name)
        self.recipes = Recipes(recipes, lambda: self._model.detector)
        live = any(source.live or source.on_demand for source in sources)  # somebody waits: no sink may hold it up
        strict, timing = self.config.strict, self._timings.worker
        self._workers = [SinkWorker(sink, wait=not live, strict=strict, timings=timing) for sink in sinks]
        paced = {source.name for source in sources if source.live and not source.on_demand}
        self._results = ResultStage(
            self._workers,
            self.status,
            deadline_ms=self.config.deadline_ms,
            drift=self.config.drift,
            paced=paced,
            stop=self._stop,
            on_result=self._show_shadow,
            grace_s=self._timings.grace_s,
        )
        self._queue: FairQueue[Prepared] = FairQueue(names, _QUEUE_DEPTH)
        self._source_error: BaseException | None = None
        self._reported_s = 0.0
        for source in sources:
            source.bit_depth = detector.spec.bit_depth
            self.status.add_camera(source.name, live=source.name in paced)

    def stop(self) -> None:
        """End the run after the frames at hand."""
        self._stop.set()

    def swap(self) -> str:
        """Put another model in place, between two frames: the shadow's, or what `reload` loads. Says which.

        Raises what loading raises, and ConfigError where there is neither; the model in use then stays in use.
        """
        return self._model.swap()

    @property
    def newest(self) -> Bundle:
        """The bundle that the next lesson is of: of a lesson that is in the shadow still, or of the model in use."""
        return self._model.newest

    def put_shadow(self, detector: Detector, before: Callable[[], Detector]) -> None:
        """Compare another model with the one in use, before a swap; `before` loads what a swap after that brings back.

        The engine is the line's from now on. Raises ConfigError where the model takes other frames.
        """
        self._model.put_shadow(detector, before)

    def false_reject(self, camera: str, frame_id: int) -> bool:
        """Tell the drift monitor that the part of an NG frame of this run is good, as `DriftMonitor.false_reject`."""
        return self._results.false_reject(camera, frame_id)

    def run(self) -> Summary:
        """Inspect until the sources end, or until SIGTERM, Ctrl-C or `stop`; then everything is flushed and closed.

        A second Ctrl-C doesn't wait for the flush. Raises SourceError where a recorded source doesn't open or, once the
        others have ended too, gave nothing; SinkError where a sink can't write (a live line goes on instead, and
        counts), EngineError after `max_failures`.
        """
        started, interrupted = time.monotonic(), False
        try:
            with ExitStack() as stack:
                stack.enter_context(signals_handled(self._stop, self._swap_on_signal))
                stack.enter_context(switching_fast())
                stack.enter_context(self._model)  # ends last: no sink waits for a model that is still being loaded
                stack.enter_context(self.recipes)
                for source in self._sources:
                    source.patient = not self.config.strict
                    stack.enter_context(source)
                for worker in self._workers:  # all at once: one that hangs must not take the time of the others
                    worker.begin_open()
                    stack.push(worker)
                for worker in self._workers:
                    worker.open()
                stack.callback(self._let_sinks_end)
                results = stack.enter_context(self._results)
                try:
                    self._inspect_all(results)
                finally:
                    self._report("stopping")
                    notify_systemd("STOPPING=1")
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._report("stopped")
        if self._source_error is not None:
            raise self._source_error
        return self._summary(time.monotonic() - started, interrupted or self._stop.is_set())

    def _inspect_all(self, results: ResultStage) -> None:
        threads = [threading.Thread(target=self._capture, args=(s,), name=s.name, daemon=True) for s in self._sources]
        failures = 0
        last: str | None = None
        try:
            for thread in threads:
                thread.start()
            self._report("running")
            notify_systemd("READY=1")
            while (batch := self._queue.take(self.config.max_batch, _POLL_S)) is not None:
                if self._stop.is_set():
                    self._queue.close()
                results.check()
                self._model.exchange()
                self.recipes.sweep()
                for outcome in inspect(batch, self.recipes.detector):
                    results.put(outcome)
                    if outcome.detection is not None:
                        failures = 0
                    elif outcome.cause == "engine":
                        failures, last = failures + 1, outcome.reason
                if failures >= self.config.max_failures:
                    raise EngineError(f"the run ends: {failures} frames in a row failed; the last: {last}")
                self._report("running", at_most_every_s=_STATUS_S)
            results.finish()
        finally:
            self._queue.close()
            for source in self._sources:
                source.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(self._timings.camera_s)

    def _capture(self, source: Source) -> None:
        """A source's thread: the frames of it that are asked for, prepared, to the queue."""
        try:
            for record in source.frames():
                if not self._queue.put(source.name, prepare(self._with_recipe(record), self.recipes.detector)):
                    return
        except SourceError as error:  # no reason for the others to end
            _log.error("%s has ended: %s", source.name, error)
            source.connected = False
            self._source_error = self._source_error or error
        except BaseException as error:
            self._source_error = error
            self._stop.set()
        finally:
            self._queue.finish(source.name)

    def _with_recipe(self, record: FrameRecord) -> FrameRecord:
        """The record with the recipe that the part has, or that was selected when its frame was taken."""
        asked = record.part.recipe
        recipe = self.recipes.selected(record.monotonic_s) if asked is None else self.recipes.name(asked)
        return record if recipe == asked else replace(record, part=replace(record.part, recipe=recipe))

    def _let_sinks_end(self) -> None:
        """All at once, before each is waited for: one that hangs must not take the others' time."""
        for worker in self._workers:
            worker.begin_close()

    def _show_shadow(self, result: FrameResult) -> None:
        if (shadow := self._model.shadow) is not None and result.bundle_id == self._model.detector.bundle_id:
            shadow.offer(result)

    def _swap_on_signal(self) -> None:
        with contextlib.suppress(Exception):  # logged and in the status; the line goes on
            self.swap()

    def _report(self, state: LineState, at_most_every_s: float = 0.0) -> None:
        """Bring the status up to date, and tell the service manager that the line is alive."""
        now = time.monotonic()
        if now - self._reported_s < at_most_every_s:
            return
        self._reported_s = now
        status, shadow = self.status, self._model.shadow
        sinks = {worker.name: worker.snapshot() for worker in self._workers}
        status.pulse(state)
        seen = None if shadow is None else shadow.snapshot()
        status.put_parts(self._model.snapshot(), self.recipes.snapshot(), seen, sinks)
        for name, sink in sinks.items():
            self._alarm(sink.error is not None, f"sink {name}", f"{name} takes no results: {sink.error}")
        for source in self._sources:
            status.connection(source.name, source.connected, source.reconnects)
            self._alarm(not source.connected, "camera", "the camera gives no frames", source.name)
            self._alarm(source.fault is not None, "controller", source.fault or "", source.name)
        notify_systemd("WATCHDOG=1")

    def _alarm(self, stands: bool, kind: str, text: str, camera: str = "") -> None:
        if stands:
            self.status.raise_alarm(kind, text, camera)
        else:
            self.status.clear_alarm(kind, camera)

    def _summary(self, seconds: float, interrupted: bool) -> Summary:
        found = self.status.snapshot()
        cameras = found.cameras.values()
        return Summary(
            ok=sum(camera.ok for camera in cameras),
            ng=sum(camera.ng for camera in cameras),
            invalid=sum(camera.invalid for camera in cameras),
            dropped=sum(camera.dropped for camera in cameras),
            lost=sum(sink.lost for sink in found.sinks.values()),
            seconds=seconds,
            interrupted=interrupted,
        )


def conflicts(sources: Sequence[Source], sinks: Sequence[Sink]) -> list[str]:
    """Why these sources and sinks can't be of one line; empty where they can. Tells the sinks of the cameras."""
    found = []
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        found.append(f"expected sources of different names, found {', '.join(names) or 'none'}; add #name=...")
    called = [sink.name for sink in sinks]
    if len(set(called)) < len(called):
        found.append(f"expected sinks of different names, found {', '.join(called)}; leave one out")
    taken: dict[str, str] = {}
    for sink in sinks:
        try:
            sink.attach(names)
        except ConfigError as error:
            found.append(str(error))
        for target in sink.exclusive:
            if target in taken:
                found.append(f"{taken[target]} and {sink.name} both write to {target}; give each its own")
            taken[target] = sink.name
    return found


def run(source: Source, detector: Detector, sinks: Sequence[Sink] = (), config: LineConfig | None = None) -> Summary:
    """Inspect one source: `Line([source], detector, sinks, config).run()`."""
    return Line([source], detector, sinks, config).run()
