"""The model in use, and how another one takes its place between two frames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.shadow import Shadow
from simplenet_edge.runtime.snapshot import ModelSnapshot, SwapTarget

__all__ = ["ModelSlot"]

_log = logging.getLogger(__name__)

_END_S = 2.0
_EXCHANGE_S = 60.0  # a frame takes milliseconds; whoever asked for the swap needn't wait for a hung engine for ever


class ModelSlot:
    """Holds the detector in use. `exchange` belongs to the thread that runs the engine, `swap` to everyone else.

    A context manager: engines that a swap brought in are closed at the end; the first one is the caller's.
    """

    def __init__(self, detector: Detector, shadow: Shadow | None, reload: Callable[[], Detector] | None) -> None:
        self.detector = detector
        self.shadow = shadow
        self._first = detector
        self._provider = detector.engine.provider  # now, while it is open
        self._reload = reload
        self._taught: Shadow | None = None  # a shadow that `put_shadow` brought in: the slot's own
        self._before: Callable[[], Detector] | None = None  # what a swap after that to `_taught` loads
        self._goes_back = False  # `_reload` loads what was in use before a lesson
        self._one_at_a_time = threading.Lock()
        self._slot = threading.Lock()  # around the model that waits
        self._next: Detector | None = None
        self._exchanged = threading.Event()
        self._ending = False
        self._swaps = 0
        self._error: str | None = None

    def __enter__(self) -> ModelSlot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._exchanged.set()
        if not self._one_at_a_time.acquire(timeout=_END_S):
            _log.warning("the line ends while another model is being loaded")
            return
        for detector in (self.detector, self._next):
            if detector is not None and detector is not self._first:
                detector.engine.close()
        if self._taught is not None and self._taught is self.shadow:
            self._taught.__exit__(kind, error, trace)
            self._taught.detector.engine.close()
        self._reload = self.shadow = None
        self._one_at_a_time.release()

    def swap(self) -> str:
        """Load the other model, here, while the present one goes on; then wait for the exchange. Says what was done.

        Raises what loading raises, ConfigError where there is nothing to swap to or where it takes other camera frames;
        the model in use then stays in use.
        """
        with self._one_at_a_time:
            self._error = None
            try:
                new = self._loaded()
            except Exception as error:
                self._error = str(error) or type(error).__name__
                _log.error("the model was not swapped: %s", self._error)
                raise
            self._exchanged.clear()
            with self._slot:
                self._next = new
            if self._ending:
                self._exchanged.set()
            self._exchanged.wait(_EXCHANGE_S)
            with self._slot:
                taken = self._next is not new
                self._next = None
            if not taken:
                new.engine.close()
                self._error = "the line ended, or its engine does not come back from a frame: the model was not swapped"
                raise EngineError(f"{self._error}; restart the line")
            text = f"model {new.bundle_id} ({new.bundle.manifest.name}) is in use, threshold {new.threshold:.6g}"
            _log.warning("%s", text)
            return text

    def put_shadow(self, detector: Detector, before: Callable[[], Detector]) -> None:
        """Compare another model with the one in use, in place of the present shadow; its engine is the slot's now.

        `before` loads the model that a swap brings back once this one is in use. Raises ConfigError where the model
        takes other frames, EngineError where the present shadow hangs; it is closed then.
        """
        with self._one_at_a_time:
            try:
                self._check(detector)
                if self.shadow is not None:
                    self.shadow.close()
            except BaseException:
                detector.engine.close()
                raise
            if self.shadow is not None:
                self.shadow.detector.engine.close()
            self._before = before
            self.shadow = self._taught = Shadow(detector)
            self.shadow.__enter__()

    @property
    def newest(self) -> Bundle:
        """The bundle of a shadow that `put_shadow` brought in, otherwise of the model in use."""
        shadow = self.shadow
        return self.detector.bundle if shadow is None or shadow is not self._taught else shadow.detector.bundle

    def exchange(self) -> None:
        """Take up the model that waits, where one does, and close the one before."""
        if self._next is None:  # as nearly always, without the lock
            return
        if (new := self._take()) is None:
            return
        old, self.detector = self.detector, new
        self._provider = new.engine.provider
        self._swaps += 1
        old.engine.close()
        self._exchanged.set()

    def _take(self) -> Detector | None:
        with self._slot:
            new, self._next = self._next, None
            return new

    def snapshot(self) -> ModelSnapshot:
        """The model in use."""
        detector, engine = self.detector, self.detector.engine
        return ModelSnapshot(
            bundle_id=detector.bundle_id,
            name=detector.bundle.manifest.name,
            engine=engine.name,
            provider=self._provider,
            precision=engine.precision,
            threshold=detector.threshold,
            swaps=self._swaps,
            swap_error=self._error,
            swap_to=self._swap_to(),
        )

    def _swap_to(self) -> SwapTarget | None:
        if self.shadow is not None:
            return "shadow"
        if self._reload is None:
            return None
        return "before" if self._goes_back else "anew"

    def _loaded(self) -> Detector:
        if self.shadow is not None:
            self._check(self.shadow.detector)
            if (error := self.shadow.snapshot().error) is not None:
                raise EngineError(f"the shadow fails on frames of this line ({error}); it is not put in use")
            self.shadow.close()
            new, self.shadow = self.shadow.detector, None
            # The path still holds the old model: a second click brings it back only where that was meant.
            self._reload, self._before = self._before, None
            self._goes_back = self._reload is not None
            return new
        if self._reload is None:
            raise ConfigError("there is no model to swap to; start with --shadow, or put the new bundle at its path")
        new = self._reload()
        try:
            self._check(new)
        except BaseException:
            new.engine.close()
            raise
        return new

    def _check(self, new: Detector) -> None:
        old_hw, new_hw = self.detector.bundle.manifest.frame_hw, new.bundle.manifest.frame_hw
        if old_hw != new_hw:
            raise ConfigError(
                f"the new bundle takes camera frames of {new_hw or 'any size'}, the one in use of "
                f"{old_hw or 'any size'} (height, width); restart the line with it instead"
            )
        if self.detector.spec.bit_depth != new.spec.bit_depth:
            raise ConfigError(
                f"the new bundle takes 16-bit images of {new.spec.bit_depth} bits, the one in use of "
                f"{self.detector.spec.bit_depth}; restart the line with it instead"
            )
