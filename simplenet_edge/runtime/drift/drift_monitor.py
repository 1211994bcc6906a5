"""Is it the camera or the parts? What is watched of one camera: its view, its frame rate and the scores.

In: model frames uint8 `(H, W, 3)` BGR with their raw scores, times, ids and part ids. Out: the alarms that stand:

    view     camera moved or light changed: brightness, contrast, focus or the picture itself left what is normal
    rejects  more good parts are rejected than promised, in a view that is as it was (`reject_contract`)
    scores   the parts look other than those it was trained on, in such a view
    rate     frames come more slowly

What is normal of the picture and the rate is learned from the first frames on the line, when somebody is there to see
that all is well; a bundle's few golden frames show no spread. Scores are held against the operating point and the good
calibration images of the bundle, from the first frame on; of the frames in a row with one part id, only the first's.
`change_detector` says how rare false alarms are, and what that takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.drift.change_detector import UNSURE, Band, ChangeDetector, exceedance_bound
from simplenet_edge.runtime.drift.reject_contract import RejectContract
from simplenet_edge.spec import Frames, OperatingPoint, ScoreStatistics
from simplenet_edge.threshold import false_reject_bound

__all__ = ["AlarmKind", "DriftAlarm", "DriftConfig", "DriftMonitor"]

AlarmKind = Literal["view", "rejects", "scores", "rate"]

_SIDE = 256  # larger frames are thinned out to at most this many pixels each way, without smoothing
_THUMBNAIL = 32
_SMALLEST = {"contrast": 0.15, "focus": 0.4, "picture": 0.02, "interval": 0.5}
"""Changes that never matter, as shares of what is normal; of the picture's correlation, absolute."""
_LEVEL_SHARE = 0.8  # scores on one side of the calibration's median; half of them when nothing has changed
_THAN = "than those it was trained on"
_MEMORY = 4  # frames over which the values in an alarm's text are averaged


@dataclass(frozen=True)
class DriftConfig:
    """What a drift monitor looks at, and how seldom it may be wrong."""

    learn_frames: int = 200  # looks that it learns from
    every: int = 1  # it looks at one frame of this many
    frames_per_false_alarm: int = 1_000_000  # looks between false alarms on average, at least
    brightness_change: float = 0.05  # share of the learned brightness that is never an alarm
    bad_share: float = 0.1  # of all parts, that may be bad
    false_rejects: float | None = None  # share of good parts that may be NG; None: what the calibration vouches for
    invalidate: bool = False  # the line makes frames under a view alarm INVALID

    def __post_init__(self) -> None:
        if self.learn_frames < 50:
            raise ConfigError(f"learn_frames must be at least 50 to know what is normal, not {self.learn_frames}")
        if self.every < 1:
            raise ConfigError(f"every must be at least 1, not {self.every}")
        if self.frames_per_false_alarm < 100:
            raise ConfigError(f"frames_per_false_alarm must be at least 100, not {self.frames_per_false_alarm}")
        for name in ("brightness_change", "bad_share", "false_rejects"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {share}")


@dataclass(frozen=True)
class DriftAlarm:
    """An alarm that stands: `kind` for machines, `text` for people."""

    kind: AlarmKind
    text: str


class DriftMonitor:
    """Watches one camera, for one thread at a time. `live` where the frame rate is the camera's own."""

    def __init__(
        self,
        point: OperatingPoint,
        statistics: ScoreStatistics,
        config: DriftConfig | None = None,
        live: bool = False,
    ) -> None:
        self.config = config or DriftConfig()
        self._names = ("brightness", "contrast", "focus", "picture", *(("interval",) if live else ()))
        self._looks = self.config.frames_per_false_alarm * (len(self._names) + 4)  # all tests together keep the rate
        self.judge_by(point, statistics)
        self.relearn()

    def judge_by(self, point: OperatingPoint, statistics: ScoreStatistics) -> None:
        """Hold the scores against those of another model that takes the same frames; the view stays as learned."""
        self.threshold, self.statistics = point.threshold, statistics
        self._level = max(exceedance_bound(statistics.n // 2 + 1, statistics.n), _LEVEL_SHARE)
        promised = self.config.false_rejects or false_reject_bound(point, 1 - UNSURE)
        self._rejects = RejectContract(promised, self.config.bad_share, self._looks)
        self._forget_scores()

    def relearn(self) -> None:
        """Forget what is normal of the picture and the rate, and learn it from the next frames."""
        self._learned: list[npt.NDArray[np.float64]] = []
        self._thumbnails: list[npt.NDArray[np.float32]] = []
        self._template: npt.NDArray[np.float32] | None = None
        self._bands: dict[str, Band] = {}
        self._tests: dict[str, ChangeDetector] = {}
        self._values: dict[str, float] = {}
        self._alike: dict[str, float] = {}
        self._alarms: list[DriftAlarm] = []
        self._frames = 0
        self._last_s: float | None = None
        self._part_id: str | None = None

    @property
    def learning(self) -> tuple[int, int] | None:
        """How many looks of how many are learned from so far; None when that is done."""
        return None if self._bands else (len(self._learned), self.config.learn_frames)

    def observe(
        self, frame: Frames, score: float, monotonic_s: float, frame_id: int, part_id: str | None = None
    ) -> list[DriftAlarm]:
        """The alarms that stand after this frame uint8 `(H, W, 3)` BGR with its raw score, taken at `monotonic_s`."""
        look, self._frames = self._frames % self.config.every == 0, self._frames + 1
        if look:
            if part_id is None or part_id != self._part_id:
                self._look_at_score(score, frame_id)
            self._part_id = part_id
            interval_s = 0.0 if self._last_s is None else monotonic_s - self._last_s  # the first is never used
            self._last_s = monotonic_s
            values, thumbnail = _measure(frame)
            self._look_at_view(np.append(values, interval_s), thumbnail)
            if self._moved():
                self._forget_scores()  # they say nothing of the parts, and must not when the view is back
            self._alarms = [*(self._view_alarm() or self._part_alarm()), *self._rate_alarm()]
        return self.alarms()

    def false_reject(self, frame_id: int) -> bool:
        """Take to know that the part of this NG frame is good: evidence that needs no allowance for bad parts.

        The next frame brings the alarm. False where it doesn't count: the frame was not NG in this run under this model
        and this view, lies more than 10,000 NG parts back, or is marked already.
        """
        return self._rejects.false_reject(frame_id)

    def alarms(self) -> list[DriftAlarm]:
        """The alarms that stand."""
        return list(self._alarms)

    def snapshot(self) -> dict[str, Any]:
        """What it knows, as plain JSON values: `learning` ([looks, of] or null), `rejects` and `values`.

        `rejects` is of `RejectContract`. Of each value: `now`, the `normal` band, the share `outside` of late, and how
        `alike` neighbouring looks were while it learned, as a correlation. Above about 0.3, look at fewer frames or
        expect more false alarms.
        """
        return {
            "learning": list(self.learning) if self.learning else None,
            "rejects": self._rejects.snapshot(),
            "values": {
                name: {
                    "now": self._values[name],
                    "normal": [edge if math.isfinite(edge) else None for edge in (band.low, band.high)],
                    "outside": self._tests[name].share,
                    "alike": self._alike[name],
                }
                for name, band in self._bands.items()
            },
        }

    def _moved(self) -> list[str]:
        return [name for name, test in self._tests.items() if test.standing and name != "interval"]

    def _forget_scores(self) -> None:
        self._high, self._low = (ChangeDetector(self._level, self._looks) for _ in range(2))
        self._rejects.forget()

    def _look_at_score(self, score: float, frame_id: int) -> None:
        self._rejects.add(score > self.threshold, frame_id)
        self._high.add(score > self.statistics.median)
        self._low.add(score < self.statistics.median)

    def _look_at_view(self, values: npt.NDArray[np.float64], thumbnail: npt.NDArray[np.float32]) -> None:
        """`values`: brightness, contrast, focus, interval in seconds."""
        if self._template is None:
            self._learned.append(values)
            self._thumbnails.append(thumbnail)
            if len(self._learned) == self.config.learn_frames:
                self._finish_learning()
            return
        brightness, contrast, focus, interval_s = values.tolist()
        found = (brightness, contrast, focus, float(np.vdot(thumbnail, self._template)), interval_s)
        for name, value in zip(self._names, found, strict=False):  # a recorded source has no interval
            self._tests[name].add(not self._bands[name].holds(value))
            self._values[name] += (value - self._values[name]) / _MEMORY

    def _finish_learning(self) -> None:
        brightness, contrast, focus, interval_s = np.array(self._learned).T
        total = np.sum(self._thumbnails, axis=0)
        self._template = _normalised(total)
        # each against the mean of the others: what a new one will be held against
        picture = np.array([np.vdot(one, _normalised(total - one)) for one in self._thumbnails], np.float64)
        smallest = {"brightness": self.config.brightness_change, **_SMALLEST}
        for name, seen in zip(self._names, (brightness, contrast, focus, picture, interval_s[1:]), strict=False):
            middle = 1.0 if name == "picture" else abs(float(np.median(seen)))
            below = math.inf if name == "interval" else smallest[name] * middle
            above = math.inf if name == "picture" else smallest[name] * middle
            band = Band.learn(seen, below, above)
            self._bands[name], self._tests[name] = band, ChangeDetector(band.bound, self._looks)
            self._values[name], self._alike[name] = band.middle, _correlation_of_neighbours(seen)
        self._learned, self._thumbnails = [], []

    def _change(self, name: str) -> str:
        now, middle = self._values[name], self._bands[name].middle
        if name == "picture":
            return f"the picture agrees with the learned one by {now:.2f} instead of {middle:.2f}"
        return f"{name} {now:.3g} instead of {middle:.3g} ({now / middle - 1:+.0%})" if middle else f"{name} {now:.3g}"

    def _view_alarm(self) -> list[DriftAlarm]:
        changes = ", ".join(self._change(name) for name in self._moved())
        return [DriftAlarm("view", f"camera moved or light changed: {changes}")] if changes else []

    def _rate_alarm(self) -> list[DriftAlarm]:
        if "interval" not in self._tests or not self._tests["interval"].standing:
            return []
        now, normal = (1 / max(seconds, 1e-6) for seconds in (self._values["interval"], self._bands["interval"].middle))
        return [DriftAlarm("rate", f"frames come more slowly: {now:.3g} a second, {normal:.3g} were normal")]

    def _part_alarm(self) -> list[DriftAlarm]:
        stood = any(alarm.kind in ("rejects", "scores") for alarm in self._alarms)
        if not stood and any(test.suspicious for name, test in self._tests.items() if name != "interval"):
            return []  # wait whether it is the view
        unsure = "; the view is still being learned, so it may be the light" if self.learning else ""
        if (text := self._rejects.alarm) is not None:
            return [DriftAlarm("rejects", text + unsure)]
        median = f"the median of the good calibration scores ({self.statistics.median:.4g})"
        if self._high.standing:
            seen = f"worse {_THAN}: {self._high.share:.0%} of them score above {median}"
        elif self._low.standing:
            seen = f"other {_THAN}: {self._low.share:.0%} of them score below {median}"
        else:
            return []
        return [DriftAlarm("scores", f"parts look {seen}{unsure}")]


def _measure(frame: Frames) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Brightness, contrast and focus `(3,)`, and a small grey picture of zero mean and length 1.

    Contrast is the standard deviation over the mean, focus the variance of the Laplacian over the mean squared:
    neither moves when only the light's strength does.
    """
    step = -(-max(frame.shape[:2]) // _SIDE)
    grey = cv2.cvtColor(np.ascontiguousarray(frame[::step, ::step]), cv2.COLOR_BGR2GRAY)
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    edges = cv2.norm(cv2.Laplacian(grey, cv2.CV_16S)) / math.sqrt(grey.size)  # its own mean is all but 0
    level = max(mean, 1.0)  # a black frame
    thumbnail = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.array([mean, deviation / level, (edges / level) ** 2]), _normalised(thumbnail.astype(np.float32))


def _correlation_of_neighbours(values: npt.NDArray[np.float64]) -> float:
    centred = values - values.mean()
    total = float(np.vdot(centred, centred))
    return float(np.vdot(centred[1:], centred[:-1])) / total if total else 0.0


def _normalised(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = picture - picture.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)
