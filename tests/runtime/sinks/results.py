"""Results to write, with no engine behind them, and a way to wait for what another thread does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from simplenet_edge.runtime.detector import Detection, StageTimes
from simplenet_edge.runtime.records import FrameRecord, FrameResult, Part
from simplenet_edge.runtime.regions import Region
from simplenet_edge.runtime.sinks import Sink
from simplenet_edge.runtime.sinks.worker import SinkWorker, WorkerTimings
from simplenet_edge.spec import InputSpec
from tests.bundles import HEIGHT, THRESHOLD, WIDTH, even_frames, with_spot

WHEN = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone.utc)
NORMAL_LEVEL = 15.0
SPEC = InputSpec(HEIGHT, WIDTH)


def result(
    number: int,
    verdict: str = "OK",
    camera: str = "left",
    regions: tuple[Region, ...] | None = None,
    part_id: str | None = None,
) -> FrameResult:
    """The result of frame `number`, `number` seconds after `WHEN`; its score is `number` for OK, 100 more for NG."""
    name, when = f"part{number}.png", WHEN + timedelta(seconds=number)
    if verdict == "INVALID":
        record = FrameRecord(number, name, when, None, "no image", camera, part=Part(part_id))
        return FrameResult(record, "abc", THRESHOLD, None, "no image", "source")
    image = (with_spot(even_frames(1)) if verdict == "NG" else even_frames(1))[0]
    record = FrameRecord(number, name, when, image, camera=camera, part=Part(part_id))
    score = float(number) + (100 if verdict == "NG" else 0)
    heat = np.full((HEIGHT, WIDTH), NORMAL_LEVEL, np.float32)
    times = StageTimes(1.0, 2.0, 3.0)
    detection = Detection(verdict, score, THRESHOLD, heat, image, SPEC, times, NORMAL_LEVEL, THRESHOLD)  # type: ignore[arg-type]
    return FrameResult(record, "abc", THRESHOLD, detection, regions=regions)


def worker(sink: Sink, *, wait: bool, capacity: int | None = None) -> SinkWorker:
    """A worker that retries without the wait that a line would take between its tries."""
    return SinkWorker(sink, wait=wait, capacity=capacity, timings=WorkerTimings(retry_s=(0.02, 0.05), idle_s=0.02))
