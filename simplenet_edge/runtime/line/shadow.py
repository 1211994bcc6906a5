"""A second model beside the one that decides: what would it have said?"""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from simplenet_edge.errors import EngineError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.snapshot import ShadowSnapshot

__all__ = ["Shadow"]

_log = logging.getLogger(__name__)

_END_S = 5.0


class Shadow:
    """A second model that scores what the line scores and decides nothing: how would it have judged?

    A context manager with a thread of its own. It looks at the newest frame whenever it is free and skips the others,
    so it never holds up the line, though it takes its share of the processor. The engine belongs to the caller.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._changed = threading.Condition()
        self._waiting: FrameResult | None = None
        self._closed = False
        self._compared = self._ok_to_ng = self._ng_to_ok = self._skipped = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._compare, name="shadow", daemon=True)

    def __enter__(self) -> Shadow:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EngineError as hanging:
            _log.warning("%s", hanging)

    def offer(self, result: FrameResult) -> None:
        """Show it a frame that the line has judged; never waits. INVALID frames are left out."""
        if result.verdict == "INVALID":
            return
        with self._changed:
            self._skipped += self._waiting is not None
            self._waiting = result
            self._changed.notify_all()

    def snapshot(self) -> ShadowSnapshot:
        """Counts so far."""
        with self._changed:
            return ShadowSnapshot(
                bundle_id=self.detector.bundle_id,
                compared=self._compared,
                disagreed=self._ok_to_ng + self._ng_to_ok,
                ok_to_ng=self._ok_to_ng,
                ng_to_ok=self._ng_to_ok,
                skipped=self._skipped,
                error=self._error,
            )

    def close(self) -> None:
        """Stop comparing, after the frame that is waiting. Raises EngineError where that one hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if self._thread.is_alive():
            raise EngineError("the shadow's engine does not come back from its frame; it can't be used")

    def _compare(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting is not None)
                if self._waiting is None:
                    return
                result, self._waiting = self._waiting, None
            assert result.record.image is not None  # it was scored
            try:
                verdict = self.detector.inspect(result.record.image).verdict
            except Exception as error:  # it decides nothing, so it ends nothing; but it must be seen
                with self._changed:
                    self._error = str(error) or type(error).__name__
                continue
            with self._changed:
                self._error = None
                self._compared += 1
                self._ok_to_ng += (result.verdict, verdict) == ("OK", "NG")
                self._ng_to_ok += (result.verdict, verdict) == ("NG", "OK")
            if verdict != result.verdict:
                _log.debug("%s: %s, and the shadow says %s", result.record.name, result.verdict, verdict)
