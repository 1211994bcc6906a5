"""Evaluate what is on disk, a training run or a bundle, and leave the figures and the report beside it."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from simplenet_edge import __version__
from simplenet_edge.bundle import Bundle
from simplenet_edge.data.layouts import Dataset
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.report.html import write_report
from simplenet_edge.evaluation.results import Evaluation, write_evaluation
from simplenet_edge.files import require_writable
from simplenet_edge.model.backbone import RANDOM_WEIGHTS
from simplenet_edge.model.embedder import FastPredictor, FrameEmbedder
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import Predictor
from simplenet_edge.training.parts import parts_in_training
from simplenet_edge.training.run import BACKBONE_WEIGHTS, EVALUATION_FOLDER, TrainingRun
from simplenet_edge.workflows.artifact import folder_beside, is_bundle

__all__ = ["REPORT_NAME", "evaluate_artifact"]

REPORT_NAME = "report.html"
_RANDOM = (
    "The backbone's weights are random: nothing was learned from other images. These figures say little of what the "
    "method finds; train with pretrained weights."
)


def evaluate_artifact(
    model: Path,
    dataset: Dataset,
    folder: Path | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    progress: Progress = ignore,
) -> tuple[Evaluation, Path]:
    """Measure the training run or bundle at `model` on the dataset's test images; the evaluation and the report's path.

    A run is measured in PyTorch (its features as in training), a bundle's graph of `precision` in `engine`. `folder`
    takes `report.html` and `evaluation.json`; without it they go into the run, where `export` finds them, or beside the
    bundle. Which test images show parts that are in training is known of a run only. Raises
    DataError without test images, ConfigError for options that don't go with what `model` is, and
    DataError where `folder` can't be written.
    """
    if not dataset.test:
        raise DataError(f"{dataset.name} has no labelled test images; add test/<class> folders or pass --defect FOLDER")
    run: TrainingRun | None = None
    with ExitStack() as stack:
        predictor: Predictor
        if is_bundle(model, engine, precision):
            bundle = Bundle(model)
            if bundle.manifest.frame_hw is not None:
                raise ConfigError(
                    f"{model} takes whole camera frames, datasets are read as model frames; evaluate the training run, "
                    "or a bundle exported without --frame"
                )
            record, spec = bundle.record(precision), bundle.manifest.input
            point, statistics = record.operating_point, record.score_statistics
            opened = stack.enter_context(open_engine(bundle, engine, precision))
            predictor, versions, config = opened, bundle.manifest.versions, bundle.manifest.model
            about = {"Bundle": bundle.id, "Exported": bundle.manifest.created}
            about["Engine"] = f"{opened.name} ({opened.provider}), {precision.upper()}"
            folder = folder or folder_beside(model, EVALUATION_FOLDER)
        else:
            run = TrainingRun.load(model)
            point, statistics, spec = run.operating_point, run.score_statistics, run.model.input_spec
            embedder = FrameEmbedder(run.model, len(dataset.test))
            predictor = FastPredictor(run.model, embedder)
            versions, config = run.record.versions, run.model.config
            about = {"Engine": "PyTorch" if embedder.engine == "pytorch" else "PyTorch, features in ONNX Runtime"}
            folder = folder or model / EVALUATION_FOLDER
        require_writable(folder)
        known = None if run is None else parts_in_training(run, dataset.test, progress)
        result = evaluate(predictor, dataset.test, spec, point, progress=progress)
        result = dataclasses.replace(result, parts_in_training=known)
        write_evaluation(folder, result)
        source = versions.get(BACKBONE_WEIGHTS, "not recorded")
        about = {
            "Evaluated": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "Backbone": f"{config.backbone}, {', '.join(config.layers)}",
            "Backbone's weights": source,
            **about,
            "Trained with": f"simplenet-edge {versions.get('simplenet-edge', 'unknown')}",
            "Evaluated with": f"simplenet-edge {__version__}",
        }
        warnings = [_RANDOM] if source == RANDOM_WEIGHTS else []
        warnings += filter(None, [result.parts_warning()])
        title = f"{dataset.name}: {model.name}"
        write_report(folder / REPORT_NAME, result, predictor, statistics, title, about, warnings)
    return result, folder / REPORT_NAME
