"""From a finished training run to a bundle: fold, export, prove, write. Nothing is written unless the proof holds."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simplenet_edge.bundle import Bundle, Manifest, PrecisionRecord, golden_files, write_bundle
from simplenet_edge.errors import BundleError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.graph import DeployedSimpleNet
from simplenet_edge.export.onnx_graph import OPSET, to_onnx
from simplenet_edge.export.parity import prove_parity, random_frames
from simplenet_edge.runtime.verify import FP32_TOLERANCE
from simplenet_edge.spec import Prediction
from simplenet_edge.training_run import TrainingRun

__all__ = ["export_bundle"]

_RANDOM_FRAMES = 2
_GRAPH_NAME = "model.fp32.onnx"


def export_bundle(
    run: TrainingRun,
    path: Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Export `run` as a bundle at `path` (a folder, or one file where it ends in `.zip`).

    The figures of an evaluation of the run, where there is one, go into the manifest. Raises ParityError where the
    graph does not compute what the trained model computes, BundleError where `path` can't be written.
    """
    if path.exists() and not overwrite:  # before the work, not behind it
        raise BundleError(f"{path} exists; name another file or pass --overwrite")
    tell = progress or (lambda stage: None)
    tell("folding the head")
    model, forms = run.model.eval(), choose_forms(run.model)
    folded = DeployedSimpleNet(model, forms)
    tell("writing the ONNX graph")
    graph = to_onnx(folded, model.input_spec).SerializeToString()
    tell("comparing the graph with the trained model")
    frames = np.concatenate([run.golden_frames, random_frames(_RANDOM_FRAMES, model.input_spec.size_hw)])
    found, proof = prove_parity(model, folded, graph, frames, run.operating_point.threshold)
    kept = len(run.golden_frames) + 1  # the good parts and one frame of noise: low scores and a high one
    record = PrecisionRecord(
        graph=_GRAPH_NAME,
        operating_point=run.operating_point,
        score_statistics=run.score_statistics,
        tolerance=FP32_TOLERANCE,
        metrics=run.evaluation["metrics"] if run.evaluation else {},
        parity={
            "head_forms": dict(zip(model.config.layers, forms, strict=True)),
            "opset": OPSET,
            **{key: dataclasses.asdict(comparison) for key, comparison in proof.items()},
        },
    )
    manifest = Manifest(
        name=name or run.folder.resolve().name,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=model.config,
        input=model.input_spec,
        precisions={"fp32": record},
        versions={
            **run.record["versions"],
            **{package: importlib.metadata.version(package) for package in ("onnx", "onnxruntime")},
        },
    )
    golden = golden_files(frames[:kept], Prediction(found.score[:kept], found.map[:kept]))
    tell("writing the bundle")
    return write_bundle(path, manifest, {_GRAPH_NAME: graph, **golden}, overwrite)
