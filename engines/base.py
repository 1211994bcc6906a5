"""The one contract of every engine: uint8 frames in, scores and maps out.

    with open_engine(bundle) as engine:
        prediction = engine.predict(frames)   # frames: uint8 (B, *engine.frame_hw, 3) BGR

An engine is a context manager: it holds no session and no device memory before `__enter__` and none after
`__exit__`, which may be called twice. `predict` is for one thread at a time; a second one is refused, never mixed in.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, TypeVar

import numpy as np

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import ConfigError, EngineError, EngineInputError
from simplenet_edge.spec import Frames, Prediction

__all__ = ["Engine", "check_threads"]

_EngineT = TypeVar("_EngineT", bound="Engine")


def check_threads(threads: int | None) -> None:
    """Raise ConfigError for a number of CPU threads that this machine doesn't have; None leaves it to the library."""
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    if threads is not None and threads > (most := os.cpu_count() or 1):
        raise ConfigError(
            f"threads must be at most {most}, the logical CPUs of this machine, not {threads}: more would wait for "
            "each other; leave --threads out for the library's own choice"
        )


class Engine(ABC):
    """Runs one graph of one bundle on one device."""

    name: ClassVar[str]
    """What `--engine` calls it."""
    threads: int | None = None
    """CPU threads that one operator may use; None where the library decides or there are none."""

    def __init__(self, bundle: Bundle, precision: str = "fp32") -> None:
        self.bundle = bundle
        self.precision = precision
        self.frame_hw = bundle.frame_hw
        self.map_hw = bundle.manifest.input.size_hw
        self._lock = threading.Lock()
        self._opened = False

    @property
    @abstractmethod
    def provider(self) -> str:
        """The device path that is really in use, as its library names it."""

    @abstractmethod
    def _open(self) -> None:
        """Take the session and the memory. Raises EngineError or EngineUnavailable."""

    @abstractmethod
    def _predict(self, frames: Frames) -> Prediction:
        """Run a batch that `predict` has checked."""

    @abstractmethod
    def _close(self) -> None:
        """Give back what `_open` took."""

    def predict(self, frames: Frames) -> Prediction:
        """Scores float32 `(B,)` and maps float32 `(B, H, W)` of frames uint8 `(B, H, W, 3)` BGR; B is at least 1.

        The arrays belong to the caller. Raises EngineInputError for frames that break the contract, EngineError when
        the engine is closed, busy in another thread, or gives other shapes or a number that is not finite.
        """
        self._check(frames)
        if not self._lock.acquire(blocking=False):
            raise EngineError("the engine is busy in another thread; open one engine a thread")
        try:
            if not self._opened:
                raise EngineError("the engine is not open; use it inside `with engine:`")
            prediction = self._predict(frames)
        finally:
            self._lock.release()
        n = len(frames)
        if prediction.score.shape != (n,) or prediction.map.shape != (n, *self.map_hw):
            raise EngineError(
                f"the {self.name} engine gave scores {prediction.score.shape} and maps {prediction.map.shape} for {n} "
                "frames; run `simplenet-edge verify`"
            )
        if not (np.isfinite(prediction.score).all() and np.isfinite(prediction.map).all()):
            raise EngineError(f"the {self.name} engine gave numbers that are not finite; run `simplenet-edge verify`")
        return prediction

    def _check(self, frames: Frames) -> None:
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            found = frames.dtype if isinstance(frames, np.ndarray) else type(frames).__name__
            raise EngineInputError(f"expected a uint8 array of frames, found {found}; don't normalise the frames")
        expected = (*self.frame_hw, 3)
        if frames.ndim != 4 or frames.shape[0] < 1 or frames.shape[1:] != expected:
            raise EngineInputError(
                f"expected frames of shape (B, {', '.join(map(str, expected))}) with B of at least 1, found "
                f"{frames.shape}; use simplenet_edge.imaging.preprocess"
            )

    def __enter__(self: _EngineT) -> _EngineT:
        if self._opened:
            raise EngineError("the engine is open already")
        self._open()
        self._opened = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back, after a running `predict` has ended. A second call does nothing."""
        with self._lock:
            if self._opened:
                self._opened = False
                self._close()
