"""Has something changed? Bands of what is normal, and a sequential test of how often a line leaves them.

A band comes from n values seen while all was well: all but a few of the outermost lie inside. How often a new value
then falls outside has a distribution that doesn't depend on that of the values (Wilks 1941), so the rate is known to
be at most `bound` with 99.9 % confidence. The test bets against that bound, look by look: an e-detector in
Shiryaev-Roberts form (Shin, Ramdas & Rinaldo 2023). Whatever the values' distribution, the mean number of looks to a
false alarm is at least `looks`, and an alarm within t looks has a probability of at most t / looks.

Both hold for exchangeable values. The frames of a line are not quite that: where values hang together over time (one
part seen in several frames, a lamp that warms up) false alarms are more frequent; look at fewer frames then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simplenet_edge.threshold import rate_bound

__all__ = ["UNSURE", "Band", "ChangeDetector", "exceedance_bound"]

UNSURE = 0.001  # how often the bound on one band's rate may fail, over the draw of the values that it came from
_TRIMMED = 0.02  # share of those values that may lie outside at each end: odd frames among them don't widen the band
_ALTERNATIVES = (0.1, 0.4, 0.85)  # rates betted on, as shares of the way from the bound to 1
_MULTIPLES = (1.4, 2.0, 4.0, 8.0)  # and as multiples of the bound, below the first of those
_MEMORY = 32  # looks over which the rate is averaged that ends an alarm, at least


def exceedance_bound(n_outside: int, n: int) -> float:
    """The rate of values beyond a limit, at most, with 99.9 % confidence.

    The limit is the order statistic of n values that leaves `n_outside` of them at it or beyond it (both ends of a
    band counted together): the rate follows Beta(n_outside, n + 1 - n_outside) at worst.
    """
    return rate_bound(n, n_outside - 1, 1 - UNSURE)


@dataclass(frozen=True)
class Band:
    """Values from `low` to `high` are normal, `middle` is their median; at most a share `bound` lies outside."""

    low: float
    middle: float
    high: float
    bound: float

    @classmethod
    def learn(cls, values: npt.NDArray[np.float64], below: float, above: float) -> Band:
        """The band of values `(n,)` seen while all was well.

        It reaches at least `below` and `above` from the median, so that a change too small to matter stays inside;
        infinity leaves that end open.
        """
        ordered, middle = np.sort(values), float(np.median(values))
        trimmed = max(1, round(_TRIMMED * len(values)))
        low = min(float(ordered[trimmed - 1]), middle - below)
        high = max(float(ordered[-trimmed]), middle + above)
        ends = math.isfinite(below) + math.isfinite(above)
        return cls(low, middle, high, exceedance_bound(ends * trimmed, len(values)))

    def holds(self, value: float) -> bool:
        """Whether a value is normal."""
        return self.low <= value <= self.high


class ChangeDetector:
    """Counts looks at something that may be outside in a share `bound` of them; `standing` once it is more.

    An alarm ends when the rate, averaged over the last `memory` looks, is back at the bound; the test then starts
    anew. Constant memory.
    """

    def __init__(self, bound: float, looks: float, memory: int = _MEMORY) -> None:
        rates = [bound + share * (1 - bound) for share in _ALTERNATIVES]
        rates += [multiple * bound for multiple in _MULTIPLES if multiple * bound < rates[0]]
        self.bound = bound
        self.standing = False
        self.share = 0.0
        self.looks = looks
        self._memory = memory
        self.factors = ([(1 - rate) / (1 - bound) for rate in rates], [rate / bound for rate in rates])
        self._evidence = [0.0] * len(rates)
        self._left = 0.0  # the rate that ends an alarm: 1 when it is raised

    @property
    def evidence(self) -> float:
        """Against the bound, at which it grows by 1 per look at most; where it reaches `looks`, an alarm is raised."""
        return sum(self._evidence) / len(self._evidence)

    @property
    def suspicious(self) -> bool:
        """Whether an alarm stands or is on its way: half the evidence for it is there, in orders of magnitude."""
        return self.standing or self.evidence >= math.sqrt(self.looks)

    def add(self, outside: bool) -> None:
        """Take one look."""
        self.share += (outside - self.share) / self._memory
        if self.standing:
            self._left += (outside - self._left) / self._memory
            if self._left <= self.bound:
                self._start_anew()
            return
        factors = self.factors[outside]
        self._evidence = [(old + 1) * factor for old, factor in zip(self._evidence, factors, strict=True)]
        if outside and self.evidence >= self.looks:
            self.standing, self._left = True, 1.0

    def skip(self, looks: int) -> None:
        """Take so many looks at once, none of which is outside."""
        fade = 1 - 1 / self._memory
        self.share *= fade**looks
        if self.standing:
            until_over = max(1, math.ceil(math.log(self.bound / self._left, fade)))
            self._left *= fade**looks
            if looks < until_over:
                return
            self._start_anew()
            looks -= until_over
        for i, factor in enumerate(self.factors[False]):
            power = factor**looks
            self._evidence[i] = self._evidence[i] * power + factor * (1 - power) / (1 - factor)

    def _start_anew(self) -> None:
        self.standing = False
        self._evidence = [0.0] * len(self._evidence)
