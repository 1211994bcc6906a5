"""Everything that has never run on a GPU, in one go on a machine with one: `make gpu-check`, under ten minutes.

    python benchmarks/gpu_check.py [--output gpu_check.json] [--images 64]

Copies and CUDA graphs through cuda-python and pycuda; training with `--device cuda` on drawn parts; export of FP16 and
INT8; each GPU engine on each precision: golden frames replayed, and the time of a frame at batch 1 and 32; and the
whole graph over its bare backbone. A step that can't run here is in the table with the reason. Exits with 1 where a
step fails that could run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fusion import BareBackbone
from machine import interleaved_ms, machine, summary

from simplenet_edge.bundle import Bundle
from simplenet_edge.contract import FRAMES
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.engines.cuda_driver import driver_problem
from simplenet_edge.engines.onnxruntime import CUDA_PROVIDER, OnnxRuntimeCudaEngine, session_options
from simplenet_edge.engines.selection import engine_problem, open_engine
from simplenet_edge.engines.tensorrt.cuda_memory import CudaMemory, CudaPython, PyCuda
from simplenet_edge.engines.verify import verify
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.exporter import export_bundle
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.files import write_json
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic.flange import write_demo_dataset
from simplenet_edge.system import nvidia_smi
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.run import TrainingRun
from simplenet_edge.workflows.build_engine import build_engine
from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact
from simplenet_edge.workflows.train import train

ENGINES = ("onnxruntime-cuda", "tensorrt", "tensorrt_rtx")
PRECISIONS = ("fp32", "fp16", "int8")
BATCHES = (1, 32)
ROUNDS = 30


class Skipped(Exception):
    """Why a step can't run on this machine."""


class Step(NamedTuple):
    """One line of the table."""

    name: str
    outcome: str  # passed, skipped or failed
    seconds: float
    detail: Any  # figures, or the reason


class Steps:
    """Runs steps, keeps what came of each, and goes on whatever it was."""

    def __init__(self) -> None:
        self.done: list[Step] = []

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` gives; None where it was skipped or failed."""
        started, found = time.perf_counter(), None
        try:
            found = detail = work()
            outcome = "passed"
        except Skipped as reason:
            outcome, detail = "skipped", str(reason)
        except Exception as error:  # of any library: the other steps matter too
            outcome, detail = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
        shown = detail if isinstance(detail, (str, dict)) else "done"
        self.done.append(Step(name, outcome, round(time.perf_counter() - started, 1), shown))
        print(f"{name:32} {outcome:8} {self.done[-1].seconds:6.1f} s  {json.dumps(shown)}", flush=True)
        return found


def require_gpu(engine: str | None = None) -> None:
    """Raises Skipped on a machine without a usable GPU, or without what the engine needs."""
    if problem := (engine and engine_problem(engine)) or driver_problem():
        raise Skipped(problem)


def copies(adapter: type[CudaMemory]) -> dict[str, Any]:
    """There and back through page-locked memory, as queued and as a CUDA graph, and the time that the GPU gives."""
    require_gpu()
    try:
        cuda = adapter()
    except ImportError as error:
        raise Skipped(f"{adapter.name} is not installed ({error})") from error
    try:
        with cuda.active():
            sent, back = (cuda.host_array((1 << 20,), np.uint8) for _ in range(2))
            address = cuda.device_buffer(sent.nbytes)
            sent[:] = np.random.default_rng(0).integers(0, 256, len(sent), np.uint8)

            def there_and_back() -> None:
                cuda.to_device(address, sent)
                cuda.to_host(back, address)

            there_and_back()
            cuda.synchronize()
            assert np.array_equal(sent, back), "other bytes came back"
            replay = cuda.capture(there_and_back)
            sent += 1
            replay()
            cuda.synchronize()
            assert np.array_equal(sent, back), "the CUDA graph copied other bytes"
            elapsed = cuda.timed(there_and_back)
            cuda.synchronize()
            return {"device": cuda.device.name, "capability": cuda.device.capability, "copies_ms": elapsed()}
    finally:
        cuda.close()


def trained(folder: Path, images: int, side: int) -> TrainingRun:
    """A run on drawn parts, on the GPU where there is one."""
    write_demo_dataset(folder / "data", n_train=images)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = TrainingOptions(size_hw=(side, side), meta_epochs=2, alpha=0.1, device=device)
    return train(load_dataset(folder / "data").train, folder / "run", options)


def training_figures(run: TrainingRun, folder: Path) -> dict[str, Any]:
    """Where it was trained, how long, and how well."""
    if not torch.cuda.is_available():
        raise Skipped("PyTorch finds no CUDA device, so the CPU trained what the next steps need")
    found, _ = evaluate_artifact(folder / "run", load_dataset(folder / "data"))
    seconds = run.record.seconds
    return {
        "device": run.record.device,
        "features_s": round(seconds.extraction, 1),
        "training_s": round(seconds.training, 1),
        "image_auroc": found.metrics.image_auroc,
    }


def frames_of(bundle: Bundle, batch: int) -> Frames:
    """A batch of golden frames."""
    golden, _ = bundle.golden()
    return np.ascontiguousarray(np.resize(golden, (batch, *golden.shape[1:])))


def engine_figures(bundle: Bundle, engine: str, precision: str) -> dict[str, Any]:
    """Golden frames replayed, and ms a frame at each batch."""
    require_gpu(engine)
    if engine.startswith("tensorrt"):
        build_engine(bundle.path, engine, precision)
    with open_engine(bundle, engine, precision) as opened:
        found = verify(opened).require()
        worst = max(found.max_relative_score_difference, found.max_relative_map_difference)
        calls = {batch: partial(opened.predict, frames_of(bundle, batch)) for batch in BATCHES}
        times = interleaved_ms({str(batch): call for batch, call in calls.items()}, ROUNDS)
        rows = {
            f"ms_a_frame_batch_{batch}": round(statistics.median(times[str(batch)]) / batch, 4) for batch in BATCHES
        }
        return {"provider": opened.provider, "worst_difference": worst, **rows}


def head_over_backbone(run: TrainingRun, bundle: Bundle) -> dict[str, Any]:
    """The whole FP32 graph over its bare backbone, in ONNX Runtime's CUDA provider."""
    require_gpu(OnnxRuntimeCudaEngine.name)
    import onnxruntime

    model = run.model
    bare = to_onnx(
        BareBackbone(DeployedSimpleNet(model, choose_forms(model)), model.input_spec.size_hw), model.input_spec
    )
    sessions = {
        name: onnxruntime.InferenceSession(content, session_options(onnxruntime), providers=[CUDA_PROVIDER])
        for name, content in (("whole", bundle.graph()), ("backbone", bare.SerializeToString()))
    }
    found = {}
    for batch in BATCHES:
        frames = {FRAMES: frames_of(bundle, batch)}
        calls = {name: partial(session.run, None, frames) for name, session in sessions.items()}
        found[f"batch_{batch}"] = summary(interleaved_ms(calls, ROUNDS), "backbone")
    return found


@contextlib.contextmanager
def working_folder(kept: Path | None) -> Iterator[Path]:
    """The folder to work in: one that is kept, or one that is removed."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    """Run all steps, print the table, write the JSON."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--output", type=Path, default=Path("gpu_check.json"))
    cli.add_argument("--work", type=Path, help="keep the drawn parts, the run and the bundle here")
    cli.add_argument("--images", type=int, default=64, help="drawn parts to train on")
    cli.add_argument("--size", type=int, default=256, help="side of the model's input, pixels")
    options = cli.parse_args()
    steps = Steps()
    started = time.perf_counter()
    for adapter in (CudaPython, PyCuda):
        steps.run(f"copies, {adapter.name}", partial(copies, adapter))
    with working_folder(options.work) as folder:
        run = steps.run("training", partial(trained, folder, options.images, options.size))
        if run is not None:
            steps.run("training on CUDA", partial(training_figures, run, folder))
            bundle = steps.run(
                "export, FP16 and INT8",
                lambda: export_bundle(run, folder / "parts.bundle", precisions=PRECISIONS[1:], overwrite=True),
            )
            if bundle is not None:
                for engine in ENGINES:
                    for precision in PRECISIONS:
                        steps.run(f"{engine}, {precision}", partial(engine_figures, bundle, engine, precision))
                steps.run("head over backbone", partial(head_over_backbone, run, bundle))
    gpu = nvidia_smi("name,driver_version,memory.total")
    outcomes = [step.outcome for step in steps.done]
    write_json(
        options.output,
        {
            "machine": machine("torch", "onnx"),
            "gpu": gpu.stdout.strip() if gpu is not None else None,
            "seconds": round(time.perf_counter() - started, 1),
            "steps": [step._asdict() for step in steps.done],
        },
    )
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "skipped", "failed"))
    print(f"{counts}; {options.output}")
    sys.exit("failed" in outcomes)


if __name__ == "__main__":
    main()
