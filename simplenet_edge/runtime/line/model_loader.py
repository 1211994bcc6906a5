"""A model from a bundle, open and proven on this machine: what a line starts with, swaps to, or runs in its shadow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.selection import choose_engine, open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.runtime.detector import Detector

__all__ = ["ModelLoader"]


@dataclass(frozen=True)
class ModelLoader:
    """How to load a bundle: on which engine, in which precision, and whether its golden frames are replayed first."""

    path: Path
    engine: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    check: bool = True

    def load(self) -> Detector:
        """A detector whose engine is open and has replayed the golden frames; `detector.engine.close()` ends it.

        Raises BundleError, EngineError, ParityError; nothing stays open then.
        """
        name = choose_engine(self.engine, self.precision).name
        engine = open_engine(Bundle(self.path), name, self.precision, self.threads)
        engine.__enter__()
        try:
            if self.check and name != FakeEngine.name:
                verify(engine).require()
            return Detector(engine)
        except BaseException:
            engine.close()
            raise
