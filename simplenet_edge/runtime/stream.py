"""The loop beside the line: frames from a source, verdicts from a detector, results to sinks.

One frame at a time, in order. A frame that can't be inspected is INVALID, with the reason; it never counts as OK.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.sinks import FrameResult, Sink
from simplenet_edge.runtime.sources import FrameRecord, Source

__all__ = ["Summary", "run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run came to. `interrupted`: ended by Ctrl-C or SIGTERM, not by the end of the source."""

    ok: int
    ng: int
    invalid: int
    seconds: float
    interrupted: bool

    @property
    def frames(self) -> int:
        """All frames, the invalid ones too."""
        return self.ok + self.ng + self.invalid

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"frames": self.frames, **dataclasses.asdict(self)}


def run(source: Source, detector: Detector, sinks: Sequence[Sink] = (), max_failures: int = 10) -> Summary:
    """Inspect every frame of a source; opens and closes the source and the sinks, not the engine.

    Ctrl-C and SIGTERM end the run after the current frame, with the sinks closed; a second one ends it at once.
    An engine error makes the frame INVALID; after `max_failures` of them in a row the run ends with EngineError.
    Raises SourceError when the source gives no frames or stops giving them, ConfigError when a sink can't write.
    """
    if max_failures < 1:
        raise ConfigError(f"max_failures must be at least 1, not {max_failures}")
    counts = {"OK": 0, "NG": 0, "INVALID": 0}
    failures = 0
    interrupted = False
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(source)
        for sink in sinks:
            stack.enter_context(sink)
        stop = stack.enter_context(_stop_on_signals())
        try:
            for record in source:
                result, engine_failed = _inspect(record, detector)
                for sink in sinks:
                    sink.write(result)
                counts[result.verdict] += 1
                if result.reason is None:
                    failures = 0
                else:
                    _log.warning("%s is INVALID: %s", record.name, result.reason)
                    failures += engine_failed
                if failures == max_failures:
                    raise EngineError(f"the run ends: {failures} frames in a row failed; the last: {result.reason}")
                if stop():
                    interrupted = True
                    break
        except KeyboardInterrupt:
            interrupted = True
    return Summary(counts["OK"], counts["NG"], counts["INVALID"], time.monotonic() - started, interrupted)


def _inspect(record: FrameRecord, detector: Detector) -> tuple[FrameResult, bool]:
    """The result, and whether it was the engine that failed."""
    if record.image is None:
        reason = record.error or "the source gave no image and no reason"
        return FrameResult(record, detector.bundle_id, detector.threshold, None, reason), False
    try:
        verdict = detector.inspect(record.image)
    except EngineError as error:
        return FrameResult(record, detector.bundle_id, detector.threshold, None, str(error)), True
    return FrameResult(record, detector.bundle_id, detector.threshold, verdict), False


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM set a flag instead of breaking into a sink's write; only the main thread can arrange that."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return
    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
