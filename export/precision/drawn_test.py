"""Does a precision still find defects? Asked without any: of defects drawn on images of good parts.

Model frames uint8 `(H, W, 3)`; one seed for all precisions, so that each is asked the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from simplenet_edge.evaluation.metrics import image_auroc
from simplenet_edge.spec import Frames, Predictor
from simplenet_edge.synthetic.drawn_defects import KINDS

__all__ = ["ENOUGH_FRAMES", "DrawnTest"]

ENOUGH_FRAMES = 40
"""Good frames that are drawn on; with fewer an AUROC is more of a chance."""


class DrawnTest:
    """The first 40 of some good frames, and 40 times each kind of defect drawn on them: fewer frames get several."""

    def __init__(self, frames: Iterable[Frames]) -> None:
        self._good = list(itertools.islice(frames, ENOUGH_FRAMES))

    @property
    def n_frames(self) -> int:
        """Good frames among them."""
        return len(self._good)

    def auroc(self, predictor: Predictor) -> float:
        """AUROC of the frames with a drawn defect against those without."""
        rng = np.random.default_rng(0)
        frames = [self._good[i % len(self._good)] for i in range(ENOUGH_FRAMES)]
        drawn = (draw(rng, frame) for draw in KINDS.values() for frame in frames)
        scores = [predictor.predict(frame[np.newaxis]).score[0] for frame in itertools.chain(self._good, drawn)]
        found = image_auroc(np.array(scores, np.float32), np.arange(len(scores)) >= len(self._good))
        assert found is not None
        return found
