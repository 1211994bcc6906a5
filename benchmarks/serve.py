"""What does serving cost? `simplenet-edge serve` under 1, 8 and 64 clients, beside the engine alone.

    python benchmarks/serve.py --bundle part.bundle

The server, and each client, is a process of its own on this machine; a client sends one frame after the other as a
binary tensor, through Triton's client, and asks for the score, or for score and map. The engine alone runs in this
process, on the same frames in batches as large as the clients could fill. Both in turns of some seconds, so that a
machine that slows down slows both down; `ratio` is the median over the turns of frames per second served to those of
the engine alone. The clients take CPU time too, which the engine alone has for itself. Written to
`results/serve.json`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.base import Engine
from simplenet_edge.spec import Frames

OUTPUTS = (("score",), ("score", "map"))
PERCENTILES = (50, 99)
_SERVER = "from simplenet_edge.cli import main; main()"


@contextmanager
def serving(bundle: Path, engine: str, threads: int, max_batch: int) -> Iterator[str]:
    """A server of the bundle as `part`, in a process of its own: its address."""
    words = ["serve", f"part={bundle}", "--engine", engine, "--threads", str(threads), "--listen", "0"]
    command = [sys.executable, "-c", _SERVER, *words, "--max-batch", str(max_batch)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        while not (found := re.search(r"serving at http://(\S+)/v2", said)):
            line = process.stderr.readline()
            if not line:
                raise SystemExit(f"the server ended: {said}")
            said += line
        yield found[1]
    finally:
        process.terminate()
        process.communicate()


def ask(pipe: Connection, address: str, frame: Frames, outputs: Sequence[str], seconds: float) -> None:
    """One client: connects, waits to be told, and sends back the latencies in ms of all its requests."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address)
    tensor = triton.InferInput("frames", list(frame.shape), "UINT8")
    asked = [triton.InferRequestedOutput(name, binary_data=True) for name in outputs]

    def once() -> None:
        tensor.set_data_from_numpy(frame)  # each time, as a client with a camera has to
        result = client.infer("part", [tensor], outputs=asked)
        assert all(result.as_numpy(name) is not None for name in outputs)

    once()
    pipe.send(None)
    pipe.recv()
    latencies: list[float] = []
    end_s = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end_s:
        once()
        latencies.append(1000 * (time.perf_counter() - started))
    pipe.send(latencies)


def served(address: str, frame: Frames, clients: int, outputs: Sequence[str], seconds: float) -> dict[str, Any]:
    """So many clients for so long: frames per second, latencies, and the frames per call of the engine."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tritonclient.http"])
    pipes: list[Connection] = []
    processes = []
    for _ in range(clients):
        here, there = context.Pipe()
        pipes.append(here)
        processes.append(context.Process(target=ask, args=(there, address, frame, outputs, seconds), daemon=True))
        processes[-1].start()
    for pipe in pipes:
        pipe.recv()
    before = calls(address)
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send(None)
    latencies = [ms for pipe in pipes for ms in pipe.recv()]
    took = time.perf_counter() - started
    after = calls(address)
    for process in processes:
        process.join()
    batch = (after[0] - before[0]) / (after[1] - before[1])
    return {"fps": len(latencies) / took, "latency_ms": latencies, "batch": batch}


def calls(address: str) -> tuple[float, float]:
    """The frames that the server's engine has computed, and in how many calls."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    found = [re.search(rf"batch_frames_{kind}{{[^}}]*}} (\S+)", text) for kind in ("sum", "count")]
    frames, count = (float(one[1]) for one in found if one is not None)
    return frames, count


def alone(engine: Engine, frame: Frames, batch: int, seconds: float) -> float:
    """Frames per second of the engine itself, in calls of so many frames."""
    frames = np.repeat(frame, batch, axis=0)
    engine.predict(frames)
    count, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        engine.predict(frames)
        count += batch
    return count / took


def measure(engine: Engine, address: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All loads in turns, each right after the engine alone."""
    frame = engine.bundle.golden()[0][:1]
    loads = [(clients, outputs) for clients in options.clients for outputs in OUTPUTS]
    runs: dict[Any, list[tuple[float, dict[str, Any]]]] = {load: [] for load in loads}
    for turn in range(options.turns):
        for clients, outputs in loads:
            bare = alone(engine, frame, min(clients, options.max_batch), options.seconds)
            run = served(address, frame, clients, outputs, options.seconds)
            runs[clients, outputs].append((bare, run))
            print(f"turn {turn + 1}, {clients} clients, {'+'.join(outputs)}: {run['fps'] / bare:.2f}", flush=True)
    return [row(clients, outputs, options.max_batch, runs[clients, outputs]) for clients, outputs in loads]


def row(
    clients: int, outputs: Sequence[str], max_batch: int, runs: Sequence[tuple[float, dict[str, Any]]]
) -> dict[str, Any]:
    """What the turns of one load come to."""
    latencies = np.concatenate([run["latency_ms"] for _, run in runs])
    p50, p99 = np.percentile(latencies, PERCENTILES).tolist()
    ratios = [run["fps"] / bare for bare, run in runs]
    return {
        "clients": clients,
        "outputs": list(outputs),
        "engine_batch": min(clients, max_batch),
        "engine_fps": round(statistics.median(bare for bare, _ in runs), 1),
        "served_fps": round(statistics.median(run["fps"] for _, run in runs), 1),
        "served_batch": round(statistics.mean(run["batch"] for _, run in runs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_least": round(min(ratios), 3),
        "ratio_most": round(max(ratios), 3),
        "latency_p50_ms": round(p50, 1),
        "latency_p99_ms": round(p99, 1),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The loads as a Markdown table."""
    lines = [
        "| clients | answer | engine alone, FPS | served, FPS | ratio | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        values = (one["engine_fps"], one["served_fps"], one["ratio"], one["latency_p50_ms"], one["latency_p99_ms"])
        lines.append(f"| {one['clients']} | {' and '.join(one['outputs'])} | {' | '.join(map(str, values))} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write `serve.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--name", default="serve", help="name of the JSON file")
    options = parser.parse_args()
    bundle = Bundle(options.bundle)
    load = os.getloadavg()[0]
    with (
        open_engine(bundle, options.engine, threads=options.threads) as engine,
        serving(options.bundle, options.engine, options.threads, options.max_batch) as address,
    ):
        rows = measure(engine, address, options)
    result = {
        "machine": machine("numpy", "onnxruntime", "openvino", "uvicorn", "starlette", "tritonclient"),
        "load_before": load,
        "engine": f"{options.engine}, {options.threads} threads",
        "backbone": bundle.manifest.model.backbone,
        "input": list(bundle.frame_hw),
        "max_batch": options.max_batch,
        "turns": options.turns,
        "seconds": options.seconds,
        "rows": rows,
    }
    print(table(rows))
    print(write_result(options.name, result))


if __name__ == "__main__":
    main()
