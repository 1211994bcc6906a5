"""From a finished training run to a bundle: fold, export, prove, write. Nothing is written unless the proof holds."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime

from simplenet_edge.bundle import Bundle, Manifest, PrecisionRecord, golden_files, require_place, write_bundle
from simplenet_edge.comparison import FP32_TOLERANCE, compare
from simplenet_edge.data.layouts import Dataset
from simplenet_edge.errors import ConfigError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.evidence import FoldEvidence
from simplenet_edge.export.frame_resize import with_frame_resize
from simplenet_edge.export.parity import prove_parity, random_frames, run_graph
from simplenet_edge.export.precision.calibration import calibration_images
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.precisions import PRECISIONS, PrecisionExport
from simplenet_edge.export.to_onnx import OPSET, to_onnx
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.model.quantization import is_int8
from simplenet_edge.progress import OnLoss, OnMessage, Progress, ignore, ignore_loss, ignore_message
from simplenet_edge.spec import Frames, InputSpec, Prediction
from simplenet_edge.training.int8 import int8_run
from simplenet_edge.training.run import TrainingRun

__all__ = ["export_bundle"]

_RANDOM_FRAMES = 2
_GRAPH_NAME = "model.fp32.onnx"
_SAYS_NOTHING = re.compile(r"|(?:runs?|output|train|good|ok|normal|pass|images?|data)[-_]?\d*", re.IGNORECASE)
"""Names of folders after which nobody would call a bundle."""


def export_bundle(
    run: TrainingRun,
    path: Path,
    *,
    name: str | None = None,
    precisions: Sequence[str] = (),
    calibration: Path | None = None,
    labelled: Dataset | None = None,
    frame_hw: tuple[int, int] | None = None,
    overwrite: bool = False,
    on_message: OnMessage = ignore_message,
    progress: Progress = ignore,
    on_loss: OnLoss = ignore_loss,
) -> Bundle:
    """Export `run` as a bundle at `path` (a folder, or one file where it ends in `.zip`).

    `precisions` are those beside fp32, of `PRECISIONS`. They need images of good parts: those in the folder
    `calibration`, or the run's own. The test images of `labelled`, where there are any, are what they are compared on.
    INT8 is trained first, in about the time of the training, unless the run's folder has it already (`int8_run`).
    With `frame_hw` the graphs take whole camera frames of that size and resize them themselves.
    Without `name` it is called as the run's folder or, where that is no more than "run", the folder of its images.
    The figures of an evaluation of the run, and of its visibility, go into the manifest where there are some.

    Raises ConfigError for the INT8 part of a run by itself, ParityError where the graph does not compute what the
    trained model computes, or a precision is not as good as fp32; DataError for calibration images that can't be used;
    BundleError where `path` can't be written.
    """
    require_place(path, overwrite)  # before the work, not behind it
    if is_int8(run.model.backbone.body):
        raise ConfigError(f"{run.folder} is the INT8 part of a run; export that run with --int8: {run.folder.parent}")
    if unknown := sorted(set(precisions) - set(PRECISIONS)):
        raise ConfigError(f"no precision is called {unknown[0]!r}; beside fp32 there are {', '.join(PRECISIONS)}")
    images = calibration_images(run, calibration) if precisions else None
    on_message("folding the head")
    model, forms = run.model.eval(), choose_forms(run.model)
    folded = DeployedSimpleNet(model, forms)
    on_message("writing the ONNX graph")
    graph = to_onnx(folded, model.input_spec)
    on_message("comparing the graph with the trained model")
    frames = np.concatenate([run.golden_frames, random_frames(_RANDOM_FRAMES, model.input_spec.size_hw)])
    found, proof = prove_parity(model, folded, graph.SerializeToString(), frames, run.operating_point.threshold)
    kept = len(run.golden_frames) + 1  # the good parts and one frame of noise: low scores and a high one
    record = PrecisionRecord(
        graph=_GRAPH_NAME,
        operating_point=run.operating_point,
        score_statistics=run.score_statistics,
        tolerance=FP32_TOLERANCE,
        metrics=_metrics(run),
        parity=FoldEvidence(
            head_forms=dict(zip(model.config.layers, forms, strict=True)),
            opset=OPSET,
            folded=proof["folded"],
            onnx=proof["onnx"],
        ).to_dict(),
    )
    golden = frames[:kept], Prediction(found.score[:kept], found.map[:kept])
    records, files, own = {"fp32": record}, {_GRAPH_NAME: graph.SerializeToString()}, {}
    if images is not None:
        test = labelled.test if labelled is not None else ()
        trained_on = run.operating_point.folds is not None and calibration is None
        export = PrecisionExport(run, graph, images, golden, test, trained_on, on_message)
        for precision in precisions:
            made = export.fp16() if precision == "fp16" else export.int8(int8_run(run, on_message, progress, on_loss))
            records[precision] = made.record
            files[made.record.graph] = made.graph
            if made.golden is not None:
                own[precision] = made.golden
    files |= golden_files(*golden, own)
    if frame_hw is not None:
        on_message("putting the resize of camera frames into the graph")
        records, files = _for_camera_frames(records, files, golden[0], model.input_spec, frame_hw, set(own))
    manifest = Manifest(
        name=name or _name(run),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=model.config,
        input=model.input_spec,
        precisions=records,
        frame_hw=frame_hw,
        versions={
            **run.record.versions,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )
    on_message("writing the bundle")
    return write_bundle(path, manifest, files, overwrite)


def _metrics(run: TrainingRun) -> dict[str, Any]:
    """What `evaluate` and `visibility` have measured of the run; the curves stay there."""
    metrics: dict[str, Any] = dict(run.evaluation["metrics"]) if run.evaluation else {}
    if run.visibility:
        metrics["visibility"] = {name: value for name, value in run.visibility.items() if name != "curves"}
    return metrics


def _name(run: TrainingRun) -> str:
    """The name of the run's folder; where that says nothing, that of the folder which its images came from."""
    folder = run.folder.resolve().name
    images = run.record.sources.calibration if run.record.sources else ()
    if not _SAYS_NOTHING.fullmatch(folder) or not images:
        return folder
    return next((part.name for part in Path(images[0]).parents if not _SAYS_NOTHING.fullmatch(part.name)), folder)


def _for_camera_frames(
    records: dict[str, PrecisionRecord],
    files: dict[str, bytes],
    golden_frames: Frames,
    spec: InputSpec,
    frame_hw: tuple[int, int],
    own: Collection[str],
) -> tuple[dict[str, PrecisionRecord], dict[str, bytes]]:
    """The same bundle for camera frames: every graph resizes first, the golden frames are camera frames.

    `own` are the precisions that have golden scores and maps of their own.

    The record of fp32 says how far rounding inside the graph and on the CPU come apart.
    """
    height, width = frame_hw
    kept = golden_frames[-2:]  # a good part and the frame of noise; camera frames are large
    images = np.stack([np.asarray(cv2.resize(frame, (width, height)), np.uint8) for frame in kept])
    on_cpu = run_graph(files[_GRAPH_NAME], np.stack([preprocess(image, spec) for image in images]))
    resized = dict(files)
    for record in records.values():
        graph = with_frame_resize(onnx.load_from_string(files[record.graph]), frame_hw, spec)
        resized[record.graph] = graph.SerializeToString()
    found = run_graph(resized[_GRAPH_NAME], images)
    fp32 = records["fp32"]
    threshold = fp32.operating_point.threshold
    own_golden = {}
    for name, record in records.items():
        if name == "fp32":
            continue
        rounded = GraphPredictor(onnx.load_from_string(resized[record.graph])).predict(images)
        if name in own:
            own_golden[name] = rounded
        else:  # other golden frames, another difference: measured again, with the same room
            worst = compare(rounded, found, threshold).worst
            records = {**records, name: dataclasses.replace(record, tolerance=max(2 * worst, record.tolerance))}
    apart = dataclasses.asdict(compare(found, on_cpu, threshold))
    proven = dataclasses.replace(fp32, parity={**fp32.parity, "frame_resize": apart})
    return {**records, "fp32": proven}, {**resized, **golden_files(images, found, own_golden)}
