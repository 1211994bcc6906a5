"""How many cameras does one device take? A line under growing load, simulated from measured times and for real.

    OMP_NUM_THREADS=1 python benchmarks/line_load.py --bundle part.bundle

First the engine alone: the mean time of a call with 1, 2, ... frames. Then the line, every stage for real (live cameras
`test://?fps=...`, preprocessing, judge), with 1, 2, ... cameras: once with the fake engine, each of whose calls sleeps
as long as one of the measured calls of its batch size took, chosen at random; and once with the engine itself on this
CPU. Both in turns; the measurement is repeated in each turn. Without `--fps` the rate of a camera is such that the
largest number of cameras asks for 1.2 times what the engine can do.

The cameras start together and keep one rhythm, so their frames come in bursts: the worst case. `busy` is the share of
the time that the engine computes, `dropped` the share of the frames that came while the line was busy, the latency is
from a frame's arrival to its verdict (dropped frames have none). Written to `results/line_load.json` and
`results/line_load.svg`; `docs/sizing.md` explains the arithmetic.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from machine import RESULTS, machine, write_result
from matplotlib import pyplot as plt

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line, LineConfig
from simplenet_edge.runtime.sinks import FrameResult, Sink
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.spec import Frames, Prediction

LIMIT = 0.7
"""The utilisation up to which a device is planned."""
OVERLOAD = 1.2
PERCENTILES = (50, 99)


def utilisation(cameras: int, fps: float, ms: float, batch_gain: float = 1.0) -> float:
    """The share of its time that one device computes: 1 is all of it.

    `ms` is what a frame takes in a call of its own, `batch_gain` how much less it takes in a batch (1: the same).
    """
    return cameras * fps * ms / batch_gain / 1000


def devices_needed(cameras: int, fps: float, ms: float, batch_gain: float = 1.0, limit: float = LIMIT) -> int:
    """How many devices keep below `limit`; each camera belongs to one. Raises ValueError where one is too much."""
    a_device = math.floor(limit / utilisation(1, fps, ms, batch_gain) + 1e-9)
    if a_device < 1:
        raise ValueError(
            f"one camera of {fps:g} FPS at {ms:g} ms a frame uses {utilisation(1, fps, ms, batch_gain):.0%} of a "
            f"device, planned are at most {limit:.0%}; take a faster device, a smaller network or fewer frames"
        )
    return math.ceil(cameras / a_device)


def watts(cameras: int, fps: float, mj: float) -> float:
    """The mean power of inspecting, over all devices; `mj` are the millijoules a frame."""
    return cameras * fps * mj / 1000


class ModelledEngine(FakeEngine):
    """Each call takes as long as one of the measured calls with so many frames, and finds nothing."""

    def __init__(self, bundle: Bundle, times_ms: Mapping[int, Sequence[float]], seed: int = 0) -> None:
        super().__init__(bundle)
        self.times_ms = times_ms
        self._rng = np.random.default_rng(seed)

    def _predict(self, frames: Frames) -> Prediction:
        end_s = time.perf_counter() + float(self._rng.choice(self.times_ms[len(frames)])) / 1000
        prediction = super()._predict(frames)
        time.sleep(max(0.0, end_s - time.perf_counter()))
        return Prediction(prediction.score * 0, prediction.map * 0)


class Results(Sink):
    """Keeps what each frame took."""

    name = "results"

    def __init__(self) -> None:
        self.infer_ms: list[float] = []
        self.latency_ms: list[float] = []

    def open(self) -> None:
        """Nothing to take."""

    def close(self) -> None:
        """Nothing to give back."""

    def write(self, result: FrameResult) -> None:
        """Note one result; one without an inspection is a bug here."""
        assert result.detection is not None, result.reason
        assert result.latency_ms is not None
        self.infer_ms.append(result.detection.times.infer_ms)
        self.latency_ms.append(result.latency_ms)


def service_times(engine: Engine, max_batch: int, calls: int) -> dict[int, list[float]]:
    """Wall times in ms of calls with 1 to `max_batch` frames, in turns."""
    golden, _ = engine.bundle.golden()
    batches = {size: np.resize(golden, (size, *golden.shape[1:])) for size in range(1, max_batch + 1)}
    times: dict[int, list[float]] = {size: [] for size in batches}
    for turn in range(calls + 2):
        for size, frames in batches.items():
            started = time.perf_counter()
            engine.predict(frames)
            if turn >= 2:
                times[size].append(1000 * (time.perf_counter() - started))
    return times


def loaded(engine: Engine, cameras: int, fps: float, seconds: float, max_batch: int, camera: str) -> dict[str, Any]:
    """Run the line on so many cameras for about so long: raw numbers."""
    count = max(2, round(seconds * fps))
    uris = [f"test://?fps={fps}&size={camera}&seed={i}&frames={count}#name=camera{i}" for i in range(cameras)]
    results = Results()
    config = LineConfig(max_batch=max_batch, drift=None)
    summary = Line([open_source(uri) for uri in uris], Detector(engine), [results], config).run()
    assert summary.invalid == summary.lost == 0, summary
    return {
        "taken": summary.frames,
        "dropped": summary.dropped,
        "seconds": summary.seconds,
        "busy_s": sum(results.infer_ms) / 1000,
        "infer_ms": results.infer_ms,
        "latency_ms": results.latency_ms,
    }


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the runs of one load come to, together."""
    taken, dropped = (sum(run[key] for run in runs) for key in ("taken", "dropped"))
    latencies = np.concatenate([run["latency_ms"] for run in runs])
    p50, p99 = np.percentile(latencies, PERCENTILES).tolist()
    return {
        "frames": taken + dropped,
        "busy": round(sum(run["busy_s"] for run in runs) / sum(run["seconds"] for run in runs), 4),
        "dropped": round(dropped / (taken + dropped), 4),
        "infer_ms": round(float(np.median(np.concatenate([run["infer_ms"] for run in runs]))), 2),
        "latency_p50_ms": round(p50, 1),
        "latency_p99_ms": round(p99, 1),
    }


def measure(engine: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """All loads, simulated and real, in turns."""
    counts = range(1, options.cameras + 1)
    alone = {size: float(np.mean(ms)) for size, ms in service_times(engine, options.max_batch, 20).items()}
    fps = options.fps or round(1000 * OVERLOAD / (options.cameras * alone[1]), 1)
    pooled: dict[int, list[float]] = {size: [] for size in alone}
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {
        (kind, n): [] for kind in ("simulated", "real") for n in counts
    }
    for turn in range(options.turns):
        times = service_times(engine, options.max_batch, options.calls)
        for size, ms in times.items():
            pooled[size] += ms
        for cameras in counts:
            load = (cameras, fps, options.seconds, options.max_batch, options.camera)
            with ModelledEngine(engine.bundle, times, seed=turn) as modelled:
                runs["simulated", cameras].append(loaded(modelled, *load))
            runs["real", cameras].append(loaded(engine, *load))
            print(f"turn {turn + 1}, {cameras} cameras", flush=True)
    service = {size: float(np.mean(ms)) for size, ms in pooled.items()}
    gains = {size: size * service[1] / ms for size, ms in service.items()}
    rows = [
        {
            "cameras": n,
            "utilisation": round(utilisation(n, fps, service[1], gains[min(n, options.max_batch)]), 4),
            "simulated": figures(runs["simulated", n]),
            "real": figures(runs["real", n]),
        }
        for n in counts
    ]
    return {
        "fps": fps,
        "service_ms": {str(size): round(ms, 2) for size, ms in service.items()},
        "service_p99_ms": {str(size): round(float(np.percentile(ms, 99)), 2) for size, ms in pooled.items()},
        "batch_gain": {str(size): round(gain, 3) for size, gain in gains.items()},
        "rows": rows,
        "simulation_off_by": off_by(rows),
    }


def off_by(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far the simulation is from the engine itself: largest differences of shares, and the ratios of the p99."""
    pairs = [(row["simulated"], row["real"]) for row in rows]
    p99 = [simulated["latency_p99_ms"] / real["latency_p99_ms"] for simulated, real in pairs]
    return {
        "busy_most": round(max(abs(simulated["busy"] - real["busy"]) for simulated, real in pairs), 3),
        "dropped_most": round(max(abs(simulated["dropped"] - real["dropped"]) for simulated, real in pairs), 3),
        "p99_ratio_least": round(min(p99), 2),
        "p99_ratio_median": round(float(np.median(p99)), 2),
        "p99_ratio_most": round(max(p99), 2),
    }


def table(result: dict[str, Any]) -> str:
    """The loads as a Markdown table, simulated / real."""
    lines = [
        "| cameras | utilisation | busy | dropped | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        pair = (row["simulated"], row["real"])
        busy, dropped = (" / ".join(f"{one[key]:.0%}" for one in pair) for key in ("busy", "dropped"))
        p50, p99 = (" / ".join(f"{one[f'latency_p{q}_ms']:.0f}" for one in pair) for q in PERCENTILES)
        lines.append(f"| {row['cameras']} | {row['utilisation']:.0%} | {busy} | {dropped} | {p50} | {p99} |")
    return "\n".join(lines)


def draw(result: dict[str, Any], path: Path) -> None:
    """Busy share, dropped frames and p99 latency against the number of cameras."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "line_load", "font.size": 9})
    figure, panels = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    cameras = [row["cameras"] for row in result["rows"]]
    keys = (("busy", "engine busy, %", 100), ("dropped", "frames dropped, %", 100), ("latency_p99_ms", "p99, ms", 1))
    for panel, (key, label, factor) in zip(panels, keys, strict=True):
        for kind, color, style in (("simulated", "#8fb4f0", "--"), ("real", "#2f6fde", "-")):
            panel.plot(
                cameras, [factor * row[kind][key] for row in result["rows"]], "o" + style, color=color, label=kind
            )
        panel.set_title(label, fontsize=10)
        panel.set_xlabel(f"cameras of {result['fps']:g} FPS")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].plot(
        cameras, [100 * min(1, row["utilisation"]) for row in result["rows"]], ":", color="#1b1f24", label="formula"
    )
    panels[0].axhline(100 * LIMIT, color="#c4281c", lw=1)
    panels[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, print, write `line_load.json` and `line_load.svg`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cameras", type=int, default=6, help="the largest number of them")
    parser.add_argument("--camera", default="640x480", help="size of the synthetic images")
    parser.add_argument("--fps", type=float, default=None, help="of each camera")
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8, help="of each run of the line")
    parser.add_argument("--calls", type=int, default=30, help="measured calls of each batch size in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", default="line_load", help="name of the JSON and SVG file")
    options = parser.parse_args()
    bundle = Bundle(options.bundle)
    load = os.getloadavg()[0]
    with open_engine(bundle, options.engine, threads=options.threads) as engine:
        result = measure(engine, options)
        name = f"{engine.name}, {engine.threads} threads"
    result = {
        "machine": machine("numpy", "opencv-python", "onnxruntime", "openvino"),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "engine": name,
        "backbone": bundle.manifest.model.backbone,
        "input": list(bundle.frame_hw),
        "camera": options.camera,
        "max_batch": options.max_batch,
        "turns": options.turns,
        "seconds": options.seconds,
        **result,
    }
    print(f"{result['service_ms']} ms a call, {result['fps']} FPS a camera; simulated / real")
    print(table(result))
    print("the simulation is off by", result["simulation_off_by"])
    print(write_result(options.name, result))
    draw(result, RESULTS / f"{options.name}.svg")


if __name__ == "__main__":
    main()
