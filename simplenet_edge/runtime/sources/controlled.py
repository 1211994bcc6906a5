"""One verdict a part, by the handshake of a controller (`simplenet_edge.runtime.controllers.base`)."""

from __future__ import annotations

import logging
import threading
import time

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.backoff import Backoff
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.controllers.handshake import Handshake
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.runtime.sources.triggered import Triggered

__all__ = ["Controlled"]

_log = logging.getLogger(__name__)

_POLL_S = 0.002  # between two looks at the controller
_WATCHDOG_S = 0.1  # between two changes of the watchdog
_RETRY_S = (0.2, 5.0)  # the first wait before the controller is opened again, and the longest
_JOIN_S = 5.0


class Controlled(Triggered):
    """Of a live camera the first frame after each trigger of a controller, which gets the verdict with the part's id.

    `timeout_s` is from the trigger to the verdict. The controller is looked at in a thread of its own.
    """

    def __init__(self, camera: LiveSource, controller: Controller, timeout_s: float = 2.0) -> None:
        super().__init__(camera, timeout_s)
        self.controller = controller
        self.verdict_s = timeout_s
        self._handshake = Handshake(lambda reply, part: self.fire(reply, part), timeout_s)
        self._thread: threading.Thread | None = None

    def _open(self) -> None:
        if not self.patient:
            self.controller.open()
        try:
            super()._open()
        except BaseException:
            self.controller.close()
            raise
        self._thread = threading.Thread(target=self._serve, name=f"controller {self.controller.name}", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)
        super()._close()

    def _serve(self) -> None:
        """The controller's thread: opens it, looks at it, opens it again when it is back."""
        backoff = Backoff(*_RETRY_S)
        is_open = not self.patient
        while not self.stopping.is_set():
            try:
                if not is_open:
                    self.controller.open()
                is_open = True
                self._exchange(backoff)
            except Exception as error:
                if not isinstance(error, SourceError):  # a bug, which must not leave the controller without an answer
                    _log.exception("%s: a bug; it is opened again", self.controller.name)
                elif self.fault is None:
                    _log.warning("the controller is away: %s", error)
                self.fault = f"the controller is away: {error}"
                self._handshake.lose()
                if is_open:
                    self._leave()
                is_open = False
                self.stopping.wait(backoff.next_s())
        if is_open:
            self._leave()

    def _leave(self) -> None:
        try:
            self.controller.close()
        except Exception:  # its thread goes on, or ends, all the same
            _log.exception("%s was not closed in order", self.controller.name)

    def _exchange(self, backoff: Backoff) -> None:
        answer, request = Answer(), Request()
        while not self.stopping.is_set():
            watchdog = int(time.monotonic() / _WATCHDOG_S) % 2 == 1
            request = self.controller.exchange(answer, watchdog)
            if self.fault is not None:
                _log.warning("%s is back", self.controller.name)
                self.fault = None
            backoff.reset()
            before, answer = answer, self._handshake.step(request)
            if answer == before:
                self._handshake.answered.wait(_POLL_S)
