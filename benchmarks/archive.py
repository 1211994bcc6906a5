"""What `score` reaches of the engine's own throughput: python benchmarks/archive.py BUNDLE PICTURES

From the pictures of a folder 20,000 others are made in a temporary folder, each in other light and encoded anew. Then,
in turns: as many processes as `score` has workers, each with the same engine, threads and batch, over frames held in
memory, and no more (`engine`); the same over files, read, checked, decoded and resized, and no engine (`decode`);
`simplenet-edge score` over all files, from its start to the finished Parquet file, the start of Ray included (`score`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import machine, write_result
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import choose_engine, open_engine
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.folder import image_files
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.system import cpu_count


def make_pictures(source: Path, folder: Path, count: int) -> list[Path]:
    """`count` JPEGs of the pictures below `source`, each with a gain of its own."""
    rng = np.random.default_rng(0)
    originals = [read_image(path) for path, _ in image_files(source)]
    paths = []
    for i in range(count):
        gain = rng.uniform(0.9, 1.1)
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        image = np.clip(originals[i % len(originals)] * gain, 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths


def work(what: str, options: argparse.Namespace, files: list[Path], count: int, start: Barrier, queue: Any) -> None:
    """One process: `count` pictures through the engine, or through the decoder; its seconds go into the queue."""
    cv2.setNumThreads(1)
    bundle = Bundle(options.bundle)
    name = choose_engine(options.engine, options.precision).name
    with open_engine(bundle, name, options.precision, options.threads) as engine:
        detector = Detector(engine)
        frames = np.stack([detector.prepare(read_image(file)) for file in files[: 8 * options.batch]])
        engine.predict(frames[: options.batch])
        start.wait()
        began = time.perf_counter()
        for i in range(0, count, options.batch):
            if what == "engine":
                first = i % len(frames)
                engine.predict(frames[first : first + options.batch])
            else:
                for file in files[i : i + options.batch]:
                    detector.prepare(read_image(file))
        queue.put(time.perf_counter() - began)


def rate(what: str, options: argparse.Namespace, files: list[Path], count: int) -> float:
    """Pictures per second of all processes together, `count` in all."""
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(options.workers), context.Queue()
    share = count // options.workers // options.batch * options.batch
    shares = [files[k * share : (k + 1) * share] for k in range(options.workers)]
    processes = [context.Process(target=work, args=(what, options, one, share, start, queue)) for one in shares]
    for process in processes:
        process.start()
    seconds = max(queue.get() for _ in processes)
    for process in processes:
        process.join()
    return share * options.workers / seconds


def score_rate(options: argparse.Namespace, folder: Path, output: Path, count: int) -> float:
    """Pictures per second of the command, start and end included."""
    words = [str(options.bundle), str(folder), "-o", str(output), "--engine", options.engine]
    words += ["--precision", options.precision, "--workers", str(options.workers), "--threads", str(options.threads)]
    words += ["--batch", str(options.batch)]
    code = "from simplenet_edge.cli import main; main()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, "score", *words], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    output.unlink()
    return count / seconds


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sample", type=int, default=4000, help="frames of a turn of the engine or the decoder alone")
    options = parser.parse_args()
    found: dict[str, list[float]] = {"engine": [], "decode": [], "score": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        files = make_pictures(options.pictures, folder, options.count)
        sample = min(options.sample, options.count)
        found["engine"].append(rate("engine", options, files, sample))
        for _ in range(options.rounds):
            found["decode"].append(rate("decode", options, files, sample))
            found["score"].append(score_rate(options, folder, Path(name) / "scores.parquet", options.count))
            found["engine"].append(rate("engine", options, files, sample))
            print({key: [round(value, 1) for value in values] for key, values in found.items()}, flush=True)
    per_s = {key: statistics.fmean(values) for key, values in found.items()}
    per_s["engine"] = statistics.fmean([*found["engine"], *found["engine"][1:-1]])  # those between count for both turns
    summary = {
        "score_share_of_engine": round(per_s["score"] / per_s["engine"], 4),
        "decode_share_of_time": round((1 / per_s["decode"]) / (1 / per_s["decode"] + 1 / per_s["engine"]), 4),
    }
    print(summary)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    settings["bundle"], settings["pictures"] = Bundle(options.bundle).id, options.pictures.name
    values = {
        "machine": machine("simplenet-edge", "ray", "pyarrow", "onnxruntime", "numpy"),
        "settings": settings,
        "pictures_per_s": {key: [round(value, 2) for value in values] for key, values in found.items()},
        **summary,
    }
    print(write_result("archive", values))


if __name__ == "__main__":
    main()
