"""Images that no working camera gives: the same one again and again, and those without light."""

from __future__ import annotations

import numpy as np

from simplenet_edge.spec import Frames

__all__ = ["ImageCheck"]

_SAMPLES = 64  # rows and columns that are looked at, about
_LEAST_REPEATS = 3  # fewer prove nothing, however slow the camera
_DARK_MEAN, _DARK_SPREAD = 12.0, 4.0  # grey levels: above a covered sensor's own noise and offset


class ImageCheck:
    """Looks at each image of one camera in turn, on a sample of its pixels; for one thread.

    A sensor's noise makes each image another one, so that repeats for longer than `frozen_s` are a camera or a
    decoder that hangs. (A test pattern or an overdriven, all-white image repeats too.)
    """

    def __init__(self, frozen_s: float, black: bool) -> None:
        self._frozen_s = frozen_s
        self._black = black
        self._last: Frames | None = None
        self._since_s = 0.0
        self._repeats = 0

    def fault(self, image: Frames, now_s: float) -> str | None:
        """Why an image uint8 `(H, W, 3)` that came at `now_s` is not to be trusted; None where nothing is wrong."""
        step = max(1, min(image.shape[:2]) // _SAMPLES)
        sample = image[::step, ::step].copy()
        if self._last is not None and np.array_equal(sample, self._last):
            self._repeats += 1
        else:
            self._last, self._since_s, self._repeats = sample, now_s, 0
        mean, spread = float(sample.mean()), float(sample.std())
        if self._black and mean <= _DARK_MEAN and spread <= _DARK_SPREAD:
            return (
                f"the picture is black (mean {mean:.1f}, spread {spread:.1f} of 255): check the light, the lens cap "
                "and the exposure; black=off lets such frames pass"
            )
        repeated_s = now_s - self._since_s
        if self._repeats >= _LEAST_REPEATS and repeated_s >= self._frozen_s:
            return (
                f"the camera repeats the same picture since {repeated_s:.1f} s, {self._repeats} times: it hangs, "
                "restart it; frozen=off lets such frames pass"
            )
        return None
