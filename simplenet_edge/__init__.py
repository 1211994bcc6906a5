"""SimpleNet Edge: from images of good parts to a verified anomaly detector beside the production line.

    import simplenet_edge as se

    dataset = se.load_dataset(Path("parts"))
    run = se.train(dataset.train, Path("run"), se.TrainingOptions(backbone="mobilenet_v2"))
    evaluation, report = se.evaluate(Path("run"), dataset)
    bundle = se.export_bundle(run, Path("run.bundle"), precisions=["fp16"], labelled=dataset)
    with se.open_engine(bundle) as engine:
        detector = se.Detector(engine)
        detection = detector.inspect(se.read_image(Path("part.png")))
        se.run_line([se.open_source("parts/test")], detector, [se.JsonlSink(Path("results.jsonl"))])

Importing this imports nothing else: each name brings its module when it is first used, so that the names a device needs
work without PyTorch.
"""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime reports usage to its makers and keeps an id in the home folder unless this is set before it is imported.
# Here, since this runs before all of our own imports; child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.data.layouts import load_dataset
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.export.exporter import export_bundle
    from simplenet_edge.imaging.decode import read_image
    from simplenet_edge.runtime.detector import Detector
    from simplenet_edge.runtime.line.line import Line
    from simplenet_edge.runtime.sinks import JsonlSink
    from simplenet_edge.runtime.sources import open_source
    from simplenet_edge.training.options import TrainingOptions
    from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact as evaluate
    from simplenet_edge.workflows.run_line import run_line
    from simplenet_edge.workflows.train import train

__all__ = [
    "Bundle",
    "Detector",
    "JsonlSink",
    "Line",
    "TrainingOptions",
    "__version__",
    "evaluate",
    "export_bundle",
    "load_dataset",
    "open_engine",
    "open_source",
    "read_image",
    "run_line",
    "train",
]

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "bundle:Bundle",
    "Detector": "runtime.detector:Detector",
    "JsonlSink": "runtime.sinks:JsonlSink",
    "Line": "runtime.line.line:Line",
    "TrainingOptions": "training.options:TrainingOptions",
    "evaluate": "workflows.evaluate_artifact:evaluate_artifact",
    "export_bundle": "export.exporter:export_bundle",
    "load_dataset": "data.layouts:load_dataset",
    "open_engine": "engines.selection:open_engine",
    "open_source": "runtime.sources:open_source",
    "read_image": "imaging.decode:read_image",
    "run_line": "workflows.run_line:run_line",
    "train": "workflows.train:train",
}
"""Where each name comes from when it is first used (PEP 562)."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, _, attribute = _HOMES[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
