"""The whole product in one go, on parts that it draws itself: what `simplenet-edge demo` runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from simplenet_edge.benchmark.results import BenchmarkConfig
from simplenet_edge.benchmark.run import benchmark
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import ConfigError
from simplenet_edge.export.exporter import export_bundle
from simplenet_edge.export.speedup import measure_speedup
from simplenet_edge.files import disk_errors, require_writable
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.defaults import DEFAULT_BACKBONE
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import run as stream
from simplenet_edge.runtime.sinks import JsonlSink, OverlaySink
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.synthetic.flange import write_demo_dataset
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.trainer import train
from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact

__all__ = ["run_demo"]

BACKBONE_OF_WEIGHTS = "mobilenet_v2"
"""What a weights file is of; without one the default backbone's weights come with the package."""
_MARKER = ".simplenet-edge-demo"
_N_TRAIN = 120
_CONFIG = TrainConfig(alpha=0.05, calibration_share=0.25, meta_epochs=5)
_BENCHMARK = BenchmarkConfig(("single-stream", "stream"), duration_s=3.0)


def run_demo(
    folder: Path,
    weights: Path | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> dict[str, Any]:
    """Make parts, train, evaluate, export, verify, benchmark and stream them, all inside `folder`; the main figures.

    `weights` is a state dict of torchvision's MobileNetV2; without it the default backbone is used, whose weights come
    with the package. Raises ConfigError where `folder` is not empty and `overwrite` is not set, or holds anything but
    an earlier demo.
    """
    with disk_errors(folder):
        _claim(folder, overwrite)
    data, run_folder, bundle_path = folder / "parts", folder / "run", folder / "demo.bundle"
    on_message("1/6 drawing parts")
    write_demo_dataset(data, n_train=_N_TRAIN)
    dataset = load_dataset(data)
    on_message("2/6 training on good parts")
    model = build_simplenet(DEFAULT_BACKBONE if weights is None else BACKBONE_OF_WEIGHTS, weights=weights)
    run = train(model, dataset.train, _CONFIG, run_folder, progress=progress)
    on_message("3/6 evaluating on good and defective parts")
    evaluation, report = evaluate_artifact(run_folder, dataset, progress=progress)
    on_message("4/6 exporting one ONNX graph and proving it equal")
    bundle = export_bundle(run, bundle_path)
    on_message("5/6 verifying and benchmarking the engine")
    speed_up = measure_speedup(run.model, bundle.graph())
    engine_alone, camera_to_verdict = benchmark(bundle, config=_BENCHMARK).results
    with open_engine(bundle) as engine:
        verification = verify(engine).require()
        on_message("6/6 streaming the test parts through the runtime")
        sinks = [
            JsonlSink(folder / "verdicts.jsonl"),
            OverlaySink(folder / "overlays"),
        ]
        summary = stream(open_source(str(data / "test")), Detector(engine), sinks)
    return {
        "backbone": f"{model.config.backbone}, weights of {model.backbone.weights_source}",
        "image AUROC": _figure(evaluation.metrics.image_auroc),
        "pixel AUROC": _figure(evaluation.metrics.pixel_auroc),
        "AUPRO": _figure(evaluation.metrics.aupro),
        "false rejects": _figure(evaluation.verdicts.false_reject_rate),
        "recall": _figure(evaluation.verdicts.recall),
        "largest difference from PyTorch": max(
            bundle.record().parity["onnx"]["score_max"], bundle.record().parity["onnx"]["map_max"]
        ),
        "largest difference in verify": max(
            verification.max_relative_score_difference, verification.max_relative_map_difference
        ),
        "fold": f"{speed_up.ratio:.2f} times as fast as the chain as written "
        f"({speed_up.folded_ms:.1f} ms against {speed_up.as_written_ms:.1f} ms a frame)",
        "engine, FPS": round(engine_alone.frames_per_s, 1),
        "camera to verdict, FPS": round(camera_to_verdict.frames_per_s, 1),
        "camera to verdict, p50 and p99 ms": [
            round(camera_to_verdict.latency.p50_ms, 2),
            round(camera_to_verdict.latency.p99_ms, 2),
        ],
        "streamed": f"{summary.ok} OK, {summary.ng} NG, {summary.invalid} INVALID",
        "verdicts": str(folder / "verdicts.jsonl"),
        "overlays": str(folder / "overlays"),
        "bundle": str(bundle_path),
        "report": str(report),
    }


def _figure(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _claim(folder: Path, overwrite: bool) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / _MARKER).is_file():
            raise ConfigError(f"{folder} is not empty and was not made by the demo; name another with --output")
        if not overwrite:
            raise ConfigError(f"{folder} holds an earlier demo; pass --overwrite or name another with --output")
        doomed = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        os.replace(folder, doomed / folder.name)
        shutil.rmtree(doomed)
    require_writable(folder)
    (folder / _MARKER).touch()
