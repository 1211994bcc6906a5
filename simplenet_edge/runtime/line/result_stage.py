"""The last stage of the line: from what the engine said to the result that is counted, kept and answered."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from types import TracebackType
from typing import get_args

from simplenet_edge.runtime.detector import Detection, Detector
from simplenet_edge.runtime.drift.drift_monitor import AlarmKind, DriftConfig, DriftMonitor
from simplenet_edge.runtime.line.inspect import Inspected
from simplenet_edge.runtime.records import Cause, FrameRecord, FrameResult
from simplenet_edge.runtime.regions import Region, find_regions
from simplenet_edge.runtime.sinks.worker import SinkWorker
from simplenet_edge.runtime.status import LineStatus

__all__ = ["ResultStage"]

_log = logging.getLogger(__name__)

_DEPTH = 4
_POLL_S = 0.2
_REPORT_S = 1.0


class ResultStage:
    """Works in a thread of its own, so that the engine doesn't wait for it; a context manager that ends the thread.

    Once `stop` is set, sinks that hold it up for `grace_s` are closed. `paced` names the cameras whose frame rate is
    their own. `on_result` is called with each result. What goes wrong in the thread is raised by the next `put`, by
    `check` and by `finish`.
    """

    def __init__(
        self,
        workers: Sequence[SinkWorker],
        status: LineStatus,
        *,
        deadline_ms: float | None = None,
        drift: DriftConfig | None = None,
        paced: Collection[str] = (),
        stop: threading.Event | None = None,
        on_result: Callable[[FrameResult], None] | None = None,
        grace_s: float = 5.0,
    ) -> None:
        self._workers = workers
        self._status = status
        self._deadline_ms = math.inf if deadline_ms is None else deadline_ms
        self._drift = drift
        self._paced = frozenset(paced)
        self._stop = stop or threading.Event()
        self._reported_s = -math.inf
        self._monitors: dict[tuple[str, str | None], tuple[Detector, DriftMonitor]] = {}  # of camera and recipe
        self._drift_shown: dict[str, DriftMonitor] = {}  # of each camera the one used last
        self._drift_lock = threading.Lock()  # marks come from other threads
        self._on_result = on_result
        self._grace_s = grace_s
        self._last_reasons: dict[str, str | None] = {}
        self._queue: queue.Queue[Inspected | None] = queue.Queue(_DEPTH)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="results", daemon=True)

    def __enter__(self) -> ResultStage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def put(self, inspected: Inspected) -> None:
        """Hand over one frame, in order. Raises what went wrong with one before, such as a SinkError."""
        since_s = time.monotonic()
        while True:
            self.check()
            try:
                return self._queue.put(inspected, timeout=_POLL_S)
            except queue.Full:
                self._release(since_s)

    def false_reject(self, camera: str, frame_id: int) -> bool:
        """Tell the camera's drift monitor that the part of an NG frame is good; False where it doesn't count there."""
        with self._drift_lock:
            monitors = [monitor for (name, _), (_, monitor) in self._monitors.items() if name == camera]
            counted = any(monitor.false_reject(frame_id) for monitor in monitors)
            self._show_drift()
            return counted

    def check(self) -> None:
        """Raise what went wrong in the thread."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until all is judged and handed to the sinks. Raises what went wrong."""
        self._end()
        self.check()

    def _end(self) -> None:
        told, since_s = False, time.monotonic()
        while self._thread.is_alive():
            try:
                if not told:
                    self._queue.put(None, timeout=_POLL_S)
                    told = True
                self._thread.join(_POLL_S)
            except queue.Full:
                pass
            self._release(since_s)

    def _release(self, since_s: float) -> None:
        """Don't let a sink that hangs keep the line from its end."""
        if self._stop.is_set() and time.monotonic() - since_s > self._grace_s:
            for worker in self._workers:
                worker.begin_close()

    def _work(self) -> None:
        try:
            while (inspected := self._queue.get()) is not None:
                self._judge(inspected)
        except BaseException as error:
            self._error = error

    def _judge(self, inspected: Inspected) -> None:
        detector, record, detection = inspected.prepared.detector, inspected.prepared.record, inspected.detection
        reason, cause = inspected.reason, inspected.cause
        regions: tuple[Region, ...] | None = None
        if detection is not None:
            assert detector is not None  # whose detection it is
            regions = _regions(record, detection, detector.pixel_threshold)
            if found := self._drifted(record, detection, detector):
                reason, cause = found
        latency_ms = (time.monotonic() - record.monotonic_s) * 1000
        allowed_ms = min(self._deadline_ms, (record.due_s - record.monotonic_s) * 1000)
        if reason is None and latency_ms > allowed_ms:
            reason, cause = f"the verdict came after {latency_ms:.0f} ms, allowed are {allowed_ms:g} ms", "deadline"
        bundle_id, threshold = (None, None) if detector is None else (detector.bundle_id, detector.threshold)
        # Without whoever asked, who may keep the result: the two would keep each other, and the image, in memory.
        answered = record if record.reply is None else replace(record, reply=None)
        result = FrameResult(answered, bundle_id, threshold, detection, reason, cause, regions, latency_ms)
        self._status.add(result)
        last = self._last_reasons.get(record.camera)
        if reason is not None and reason != last:  # once, not for each dark frame
            _log.warning("%s is INVALID: %s", record.name, reason)
        elif reason is None and last is not None and record.camera in self._paced:
            _log.warning("%s is inspected again", record.name)
        self._last_reasons[record.camera] = reason
        if record.reply is not None:
            try:
                record.reply(result)
            except Exception:  # theirs, not the line's
                _log.exception("%s: whoever asked did not get the verdict", record.name)
        for worker in self._workers:
            worker.submit(result)
        if self._on_result is not None:
            self._on_result(result)

    def _drifted(self, record: FrameRecord, detection: Detection, detector: Detector) -> tuple[str, Cause] | None:
        """Look at the frame, keep the camera's alarms up to date; the reason why the frame is INVALID, if it is."""
        if self._drift is None:
            return None
        camera, part = record.camera, record.part
        with self._drift_lock:
            monitor = self._drift_shown[camera] = self._monitor(camera, part.recipe, detector)
            frame, score = detection.model_frame, detection.score
            alarms = monitor.observe(frame, score, record.monotonic_s, record.frame_id, part.id)
        if time.monotonic() - self._reported_s > _REPORT_S:
            self._reported_s = time.monotonic()
            with self._drift_lock:
                self._show_drift()
        standing = {alarm.kind for alarm in alarms}
        for kind in get_args(AlarmKind):
            if kind not in standing and self._status.clear_alarm(kind, camera):
                _log.warning("%s: the alarm %r is over", camera, kind)
        for alarm in alarms:
            if self._status.raise_alarm(alarm.kind, alarm.text, camera):
                _log.error("%s: %s", camera, alarm.text)
        if self._drift.invalidate and (view := next((a for a in alarms if a.kind == "view"), None)):
            return view.text, "watch"
        return None

    def _show_drift(self) -> None:
        """What the monitors know, into the status; under the lock."""
        self._status.put_drift({name: shown.snapshot() for name, shown in self._drift_shown.items()})

    def _monitor(self, camera: str, recipe: str | None, detector: Detector) -> DriftMonitor:
        """The monitor of a camera and a recipe, which judges by the scores of this detector's model."""
        point, statistics = detector.operating_point, detector.score_statistics
        known = self._monitors.get((camera, recipe))
        if known is None or known[0].spec != detector.spec:
            monitor = DriftMonitor(point, statistics, self._drift, live=camera in self._paced)
        else:
            monitor = known[1]
            if known[0] is not detector:  # another model that takes the same frames
                monitor.judge_by(point, statistics)
        self._monitors[camera, recipe] = (detector, monitor)
        return monitor


def _regions(record: FrameRecord, detection: Detection, pixel_threshold: float | None) -> tuple[Region, ...] | None:
    if pixel_threshold is None:
        return None
    assert record.image is not None  # it was scored
    height, width = record.image.shape[:2]
    return find_regions(detection.map, pixel_threshold, detection.spec, (height, width), record.offset_xy)
