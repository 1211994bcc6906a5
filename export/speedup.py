"""What the fold is worth on this machine: the chain as written and the folded graph, interleaved in ONNX Runtime."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.export.parity import random_frames
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["SpeedUp", "measure_speedup"]

_WARMUP = 3


@dataclass(frozen=True)
class SpeedUp:
    """Median milliseconds a frame of both graphs, and the median over the rounds of their ratio."""

    as_written_ms: float
    folded_ms: float
    ratio: float


def measure_speedup(model: SimpleNet, folded: bytes, rounds: int = 15) -> SpeedUp:
    """Time one frame through `model` traced as it is written and through its `folded` graph, taking turns.

    Both in ONNX Runtime on the CPU with the same threads. One run on a busy machine says little; `benchmarks/fusion.py`
    is the careful one.
    """
    sessions = [cpu_session(graph) for graph in (to_onnx(model.eval(), model.input_spec).SerializeToString(), folded)]
    feed = {"frames": random_frames(1, model.input_spec.size_hw)}
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARMUP + rounds):
        for session, kept in zip(sessions, times, strict=True):
            started = time.perf_counter()
            session.run(None, feed)
            if turn >= _WARMUP:
                kept.append(1000 * (time.perf_counter() - started))
    written, quick = times
    ratio = statistics.median(a / b for a, b in zip(written, quick, strict=True))
    return SpeedUp(statistics.median(written), statistics.median(quick), ratio)
