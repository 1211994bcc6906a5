"""Measurements that take turns: each gets many short slices, in an order that changes, spread over the whole run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from simplenet_edge.benchmark.environment import EnergyMeter
from simplenet_edge.benchmark.results import Scenario, ScenarioFigures
from simplenet_edge.benchmark.statistics import summarise, thinned
from simplenet_edge.engines.base import Engine
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.regions import find_regions
from simplenet_edge.spec import Frames

__all__ = ["Run", "take_turns", "timed_ms"]

_ROUNDS = 20  # slices of each measurement
_SETTLE_S = 0.05  # dropped from each slice that follows another engine's: its threads still spin, the caches are cold
_WINDOW = 5  # calls on either side of the comparison that ends the warm-up
_STEADY = 0.05  # warmed up when the medians of two windows differ by less than this share
_KEPT = 2000  # samples of a measurement that the JSON holds
_STAGES = ("preprocess", "engine", "postprocess")


@dataclass
class Run:
    """One engine in one scenario with one batch size, and what was measured of it so far."""

    engine: Engine
    scenario: Scenario
    batch: int
    images: Sequence[Frames]
    warmup_calls: int = 0
    calls_ms: list[float] = field(default_factory=list)
    stages_ms: list[tuple[float, float, float]] = field(default_factory=list)
    joules: float | None = 0.0

    def __post_init__(self) -> None:
        self._call = self._inspect if self.scenario == "stream" else self._predict
        self._detector = Detector(self.engine)
        golden, _ = self.engine.bundle.golden()
        self._frames = np.stack([golden[i % len(golden)] for i in range(self.batch)])
        self._batch = [self.images[i % len(self.images)] for i in range(self.batch)]

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.engine.name} {self.engine.precision}, {self.scenario}, batch {self.batch}"

    def warm_up(self, max_calls: int) -> None:
        """Call until the time is steady, `max_calls` times at most. Raises what the engine raises."""
        durations: list[float] = []
        while len(durations) < max_calls:
            durations.append(timed_ms(self._call))
            if len(durations) >= 2 * _WINDOW:
                before, after = median(durations[-2 * _WINDOW : -_WINDOW]), median(durations[-_WINDOW:])
                if abs(after - before) < _STEADY * before:
                    break
        self.warmup_calls = len(durations)

    def measure(self, duration_s: float, settle: bool) -> None:
        """One slice; at least one call."""
        if settle:
            started = time.perf_counter()
            self._call()
            while time.perf_counter() - started < min(_SETTLE_S, duration_s):
                self._call()
        self.stages_ms = self.stages_ms[: len(self.calls_ms)]
        meter = EnergyMeter()
        ends_at = time.perf_counter() + duration_s
        self.calls_ms.append(timed_ms(self._call))
        while time.perf_counter() < ends_at:
            self.calls_ms.append(timed_ms(self._call))
        used = meter.joules()
        self.joules = None if used is None or self.joules is None else self.joules + used

    def figures(self) -> ScenarioFigures:
        """What was measured."""
        calls_ms = np.array(self.calls_ms)
        frames = self.batch * len(calls_ms)
        split = np.mean(self.stages_ms, axis=0).tolist() if self.stages_ms else None
        return ScenarioFigures(
            engine=self.engine.name,
            precision=self.engine.precision,
            scenario=self.scenario,
            batch=self.batch,
            frames_per_s=frames * 1000 / float(calls_ms.sum()),
            latency=summarise(calls_ms),
            stages_ms=None if split is None else dict(zip(_STAGES, split, strict=True)),
            mj_per_frame=None if self.joules is None else 1000 * self.joules / frames,
            warmup_calls=self.warmup_calls,
            samples_ms=tuple(thinned(calls_ms, _KEPT).round(4).tolist()),
        )

    def _predict(self) -> None:
        self.engine.predict(self._frames)

    def _inspect(self) -> None:
        verdicts = self._detector.inspect_batch(self._batch)
        started = time.perf_counter()
        if (pixel_threshold := self._detector.pixel_threshold) is not None:
            for verdict, image in zip(verdicts, self._batch, strict=True):
                find_regions(verdict.map, pixel_threshold, self._detector.spec, image.shape[:2])
        regions_ms = (time.perf_counter() - started) * 1000
        times = verdicts[0].times  # each image's share of the call
        split = (times.preprocess_ms * self.batch, times.infer_ms * self.batch, times.post_ms * self.batch + regions_ms)
        self.stages_ms.append(split)


def take_turns(runs: Sequence[Run], duration_s: float, progress: Progress = ignore) -> None:
    """Measure each for `duration_s` in all, after its warm-up."""
    for run in runs:
        run.stages_ms.clear()  # of the warm-up
    for turn in range(_ROUNDS):
        for run in runs if turn % 2 == 0 else reversed(runs):  # so that none always follows the same one
            run.measure(duration_s / _ROUNDS, settle=len(runs) > 1)
        progress("measuring", turn + 1, _ROUNDS)


def timed_ms(call: Callable[[], object]) -> float:
    """The wall time of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000
