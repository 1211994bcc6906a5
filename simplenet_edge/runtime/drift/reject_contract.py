"""Does the line keep the promise that at most so many good parts are rejected? Two tests, for as long as it runs.

The line sees verdicts: an NG is a bad part or a good one that is rejected by mistake.

    verdicts   at most a share p of good parts is rejected, and at most a share b of parts is bad: then at most
               p + (1 - p) b of the verdicts are NG
    marks      NG parts that somebody marked as good are false rejects, whatever else is bad: at most p of all parts

p is stated, or what the calibration vouches for with 99.9 % confidence (Beta bound; `threshold.false_reject_bound`).
Each test is a `ChangeDetector`, with its guarantee: while parts are exchangeable with the calibration's and the promise
holds, the mean number of parts to a false alarm is at least `looks`, and an alarm within t parts has a probability of
at most t / looks. A mark may come late, for one NG part in ten, or never: it counts at its own part's place, and with
some marks missing the evidence at each place is smaller than with all of them, so the guarantee stays.

What breaks it: parts that hang together (several frames of one part without its id, a bad batch), more bad parts than
stated, and bad parts that are marked as good.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from simplenet_edge.runtime.drift.change_detector import ChangeDetector

__all__ = ["RejectContract"]

_KEPT = 10_000  # NG parts that may still be marked
_MARKS = 1000  # that count
_MEMORY = 10  # NG parts at the bound over which the rate is averaged that ends an alarm
_FEWEST = 32  # and at least so many parts


class RejectContract:
    """Counts parts that are NG, and of those the ones marked as good. `promised` is p, `bad_share` b. Bounded memory.

    `alarm` says what was promised, what was seen when it was raised and what to do; None while the promise stands.
    """

    def __init__(self, promised: float, bad_share: float, looks: float) -> None:
        self.promised = promised
        self.bad_share = bad_share
        self._looks = looks
        self.forget()

    def forget(self) -> None:
        """Start anew: what was seen says nothing of what comes."""
        self.alarm: str | None = None
        self._parts = self._ng = 0
        self._rejected: dict[int, int] = {}  # frame id of an NG part: its place among the parts, from 1
        self._marked: list[int] = []  # places
        self._verdicts = self._test(self.promised + (1 - self.promised) * self.bad_share)
        self._marks = self._test(self.promised)

    def add(self, rejected: bool, frame_id: int) -> None:
        """Take the verdict on one part."""
        self._parts += 1
        self._ng += rejected
        if rejected:
            self._rejected[frame_id] = self._parts
            if len(self._rejected) > _KEPT:
                del self._rejected[next(iter(self._rejected))]
        self._verdicts.add(rejected)
        self._marks.skip(1)
        self._update_alarm()

    def false_reject(self, frame_id: int) -> bool:
        """Count the part of a frame as good and rejected.

        False where the frame is not among the last 10,000 NG parts, or is marked already.
        """
        place = self._rejected.get(frame_id)
        if place is None or place in self._marked:
            return False
        insort(self._marked, place)
        del self._marked[:-_MARKS]
        self._marks, last = self._test(self.promised), 0
        for place in self._marked:  # all over again, now that one more is known
            self._marks.skip(place - last - 1)
            self._marks.add(True)
            last = place
        self._marks.skip(self._parts - last)
        self.alarm = None  # said again with one more mark, where it stands
        self._update_alarm()
        return True

    def snapshot(self) -> dict[str, Any]:
        """What was counted since the start, and what was promised, as plain JSON values."""
        return {
            "parts": self._parts,
            "ng": self._ng,
            "marked_good": len(self._marked),
            "promised": self.promised,
            "bad_share": self.bad_share,
        }

    def _test(self, bound: float) -> ChangeDetector:
        return ChangeDetector(bound, self._looks, max(_FEWEST, round(_MEMORY / bound)))

    def _update_alarm(self) -> None:
        if not (self._marks.standing or self._verdicts.standing):
            self.alarm = None
        elif self.alarm is None:
            promised, bad = (f"{100 * share:.3g}%" for share in (self.promised, self.bad_share))
            if self._marks.standing:
                seen = self._seen(self._marked, self._marks.bound)
                self.alarm = (
                    f"more good parts are rejected than promised: {seen} were NG and marked as good, at most "
                    f"{promised} were promised; teach or train the model with them"
                )
            else:
                seen = self._seen([*self._rejected.values()], self._verdicts.bound)
                self.alarm = (
                    f"more parts are rejected than promised: {seen} were NG, at most {promised} of good parts and "
                    f"{bad} bad parts were to be expected; look at them: bad ones are for whoever makes parts, good "
                    "ones are to be marked as good"
                )

    def _seen(self, places: Sequence[int], bound: float) -> str:
        """How many of how many parts, since the rate has most clearly been above the bound."""
        hits = np.arange(len(places), 0, -1)
        parts = self._parts + 1 - np.array(places)
        rate = hits / parts
        evidence = hits * np.log(rate / bound) + (parts - hits) * np.log(np.maximum(1 - rate, 1e-12) / (1 - bound))
        best = int(np.argmax(np.where(rate > bound, evidence, 0)))
        return f"{hits[best]} of the last {parts[best]} parts"
