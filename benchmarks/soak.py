"""Does the line keep up with its engine, and does its memory stay flat? A synthetic source, every stage for real.

    python benchmarks/soak.py --bundle model.bundle            # throughput on a real engine, memory on the fake one

Throughput: the engine alone on prepared frames, and the whole line (source, preprocessing, engine, judge, JSON lines to
a file, watch) on the same engine, in turns; with a real engine, which shares the processor with the line, and with one
that only waits, as for a GPU. Memory: the resident size of this process after 2,000 frames of the line
and after `--frames`. Written to `results/soak.json`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.runtime.line.line import LineConfig, run
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sinks import FrameResult, JsonlSink, Sink
from simplenet_edge.runtime.sources import Source, open_source
from simplenet_edge.system import resident_bytes


class ResidentSize(Sink):
    """Notes the resident size of the process at some of the results, counted from 1."""

    name = "resident size"

    def __init__(self, at: set[int]) -> None:
        self.at = at
        self.count = 0
        self.bytes: dict[int, int] = {}

    def open(self) -> None:
        """Nothing to take."""

    def close(self) -> None:
        """Nothing to give back."""

    def write(self, result: FrameResult) -> None:
        """Count one result."""
        self.count += 1
        if self.count in self.at:
            self.bytes[self.count] = resident_bytes() or 0


def main() -> None:
    """Measure both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--camera", default="640x480", help="size of the synthetic frames")
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--service-ms", type=float, default=9, help="of the engine that only waits, as for a GPU")
    parser.add_argument("--frames", type=int, default=200_000, help="of the memory run")
    options = parser.parse_args()
    bundle = Bundle(options.bundle)
    with open_engine(bundle, options.engine, threads=options.threads) as engine:
        throughput = throughput_of(engine, options)
        engine_name = f"{engine.name}, {engine.threads} threads"
    print(throughput, flush=True)
    with FakeEngine(bundle, service_time_ms=options.service_ms) as engine:
        waiting = throughput_of(engine, options)
    print(waiting, flush=True)
    memory = memory_of(bundle, options)
    print(memory)
    write_result(
        "soak",
        {
            "machine": machine("numpy", "opencv-python", "onnxruntime"),
            "engine": engine_name,
            "input": list(bundle.frame_hw),
            "camera": options.camera,
            "throughput": throughput,
            "throughput_of_an_engine_that_waits": {"service_ms": options.service_ms, **waiting},
            "memory": memory,
        },
    )


def throughput_of(engine: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """Frames a second of the engine alone and of the line, and the share of it that the line reaches, turn by turn."""
    frames, _ = engine.bundle.golden()
    for _ in range(20):
        engine.predict(frames[:1])
    rows = []
    for _ in range(options.turns):
        alone = engine_fps(engine, frames, options.seconds)
        count = max(20, round(alone * options.seconds))
        line = line_fps(Detector(engine), Repeated(options.camera, count))
        rows.append({"engine_fps": alone, "line_fps": line, "share": line / alone})
    return {"turns": rows, "share": statistics.median(row["share"] for row in rows)}


def engine_fps(engine: Engine, frames: np.ndarray[Any, Any], seconds: float) -> float:
    """Calls a second with one frame each."""
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        engine.predict(frames[calls % len(frames)][None])
        calls += 1
    return calls / (time.perf_counter() - started)


def line_fps(detector: Detector, source: Source) -> float:
    """Frames a second of the whole line, start and end left out: from the first result to the last."""
    times: list[float] = []

    class Clock(ResidentSize):
        def write(self, result: FrameResult) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        sinks: list[Sink] = [JsonlSink(Path(folder) / "line.jsonl"), Clock(set())]
        run(source, detector, sinks, LineConfig(drift=DriftConfig()))
    return (len(times) - 1) / (times[-1] - times[0])


def memory_of(bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    """Resident size after 2,000 frames and at the end, with the fake engine, and what it grew by."""
    marks = {2_000, options.frames // 2, options.frames}
    sink = ResidentSize(marks)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, open_engine(bundle, "fake") as engine:
        lines = JsonlSink(Path(folder) / "line.jsonl", rotate_bytes=8 * 2**20, keep=2)
        run(Repeated(options.camera, options.frames), Detector(engine), [lines, sink], LineConfig(drift=DriftConfig()))
    first, last = sink.bytes[min(marks)], sink.bytes[max(marks)]
    return {
        "frames": options.frames,
        "seconds": time.perf_counter() - started,
        "resident_mib": {str(count): round(size / 2**20, 1) for count, size in sorted(sink.bytes.items())},
        "growth": last / first - 1,
    }


class Repeated(Source):
    """The same few synthetic frames over and over: drawing is no part of the line, and would take its processor."""

    def __init__(self, camera: str, count: int) -> None:
        super().__init__("repeated")
        self.count = count
        with open_source(f"test://?size={camera}&frames=16") as source:
            self.records = list(source)

    def _open(self) -> None:
        pass

    def _close(self) -> None:
        pass

    def __iter__(self) -> Iterator[FrameRecord]:
        for i in range(self.count):
            record = self.records[i % len(self.records)]
            yield FrameRecord(i, f"repeated#{i}", record.wall_time, record.image)


if __name__ == "__main__":
    main()
