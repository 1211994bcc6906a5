"""`train --latency`: the backbone, layers, input size and memory that find most within a time per frame.

What is tried is measured: the time of a frame in ONNX Runtime on this machine, through the very graph that `export`
would write, and the AUROC on defects drawn on the good images (`workflows.probe`). Rows are kept as they come, so that
a search goes on where it was interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simplenet_edge.data.reading import fingerprint
from simplenet_edge.data.samples import Sample, content_hash
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.graph_editing import cpu_session
from simplenet_edge.export.parity import random_frames
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.files import read_json, write_json, write_text
from simplenet_edge.model.defaults import DEFAULT_MEMORY, backbone_defaults
from simplenet_edge.model.efficientnet_lite import EFFICIENTNET_LITE
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.spec import SimpleNetConfig, from_dict
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import prepare
from simplenet_edge.training.run_folder import MODEL_CHOICE_NAME, MODEL_CHOICE_PICTURE
from simplenet_edge.workflows.input_size import input_sizes, with_size
from simplenet_edge.workflows.pareto import pareto_svg
from simplenet_edge.workflows.probe import ProbeImages, drawn_auroc, probe_images

__all__ = ["Candidate", "choose_model", "frame_ms", "with_model"]

_SMALL_MEMORY = 1000
_TIMED_S = 1.0
_MUCH_TOO_SLOW = 1.5  # times the budget: a larger input of the same network is not even measured


@dataclass(frozen=True)
class Candidate:
    """One model, and what was measured of it; times are milliseconds per frame, `auroc` that on drawn defects."""

    backbone: str
    layers: tuple[str, ...]
    size_hw: tuple[int, int]
    memory: int
    latency_ms: float
    auroc: float

    def __str__(self) -> str:
        size = f"{self.size_hw[0]}x{self.size_hw[1]}"
        return f"{self.backbone} ({', '.join(self.layers)}) at {size}, memory of {self.memory}"


def with_model(
    good: Sequence[Sample],
    options: TrainingOptions,
    folder: Path,
    *,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> TrainingOptions:
    """The options with what they leave to the images: a model within their latency, or an input size.

    What was found lies in `folder`, so that it is not looked for again. Raises what `choose_model` and `choose_size`
    raise.
    """
    choose = with_size if options.latency_ms is None else choose_model
    return choose(good, options, folder, progress=progress, on_message=on_message)


def choose_model(
    good: Sequence[Sample],
    options: TrainingOptions,
    folder: Path,
    *,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> TrainingOptions:
    """The options with the model of the highest AUROC within `latency_ms`; of equals, the fastest.

    What the options name is not varied. The search ends after `search_s` seconds with what was tried until then, one
    candidate at least. `model_choice.json` and `.svg` in `folder` show all of it. Raises ConfigError where nothing is
    fast enough, DataError for too few images or a benchmark that can't be read.
    """
    assert options.latency_ms is not None
    fixed = dataclasses.replace(options, alpha=0.5, meta_epochs=None, budget_s=None, latency_ms=1.0, search_s=1.0)
    device = "" if options.latency_from is None else content_hash(options.latency_from)
    key = hashlib.sha256(f"{fingerprint(good)} {fixed} {device}".encode()).hexdigest()
    kept = read_json(folder / MODEL_CHOICE_NAME) or {}
    rows = [_candidate(row) for row in kept["tried"]] if kept.get("key") == key else []
    images = probe_images(good, options.bit_depth)
    if images is None:
        raise DataError(
            f"{len(good)} images of good parts: too few that can be read and show anything to look for a model; add "
            "images, or leave --latency out"
        )
    factor = 1.0 if options.latency_from is None else _device_factor(options, options.latency_from)
    todo, end = list(_candidates(options, images)), time.perf_counter() + options.search_s
    for done, (backbone, layers, size, memory) in enumerate(todo, start=1):
        progress("model choice", done, len(todo))
        tried = [row for row in rows if (row.backbone, row.layers, row.memory) == (backbone, layers, memory)]
        if any(row.size_hw == size or row.latency_ms > _MUCH_TOO_SLOW * options.latency_ms for row in tried):
            continue
        if rows and time.perf_counter() > end:
            on_message(f"the search ended after {options.search_s:g} s with {len(rows)} of {len(todo)} models tried")
            break
        model = _model(options, backbone, layers, size, memory)
        latency_ms = factor * frame_ms(model)
        rows.append(Candidate(backbone, layers, size, memory, latency_ms, drawn_auroc(model, images, size, memory)))
        write_json(folder / MODEL_CHOICE_NAME, {"key": key, "tried": [dataclasses.asdict(row) for row in rows]})
    allowed = [row for row in rows if row.latency_ms <= options.latency_ms]
    if not allowed:
        quickest = min(rows, key=lambda row: row.latency_ms)
        raise ConfigError(
            f"no model takes {options.latency_ms:g} ms or less per frame; the fastest that was tried, {quickest}, "
            f"takes {quickest.latency_ms:.1f} ms: allow more, or a smaller --size"
        )
    best = max(allowed, key=lambda row: (round(row.auroc, 3), -row.latency_ms))
    points = [(row.latency_ms, row.auroc, str(row)) for row in rows]
    write_text(folder / MODEL_CHOICE_PICTURE, pareto_svg(points, rows.index(best), options.latency_ms))
    on_message(
        f"{best}: {best.latency_ms:.1f} ms per frame, AUROC {best.auroc:.3f} on drawn defects, the best of "
        f"{len(rows)} tried ({folder / MODEL_CHOICE_PICTURE})"
    )
    return dataclasses.replace(
        options, backbone=best.backbone, layers=best.layers, size_hw=best.size_hw, memory=best.memory
    )


def frame_ms(model: SimpleNet) -> float:
    """The median time of one frame through the folded graph in ONNX Runtime on this machine, milliseconds."""
    deployed = DeployedSimpleNet(model.cpu().eval(), choose_forms(model))
    session = cpu_session(to_onnx(deployed, model.input_spec))
    feed = {"frames": random_frames(1, model.input_spec.size_hw)}
    times: list[float] = []
    session.run(None, feed)
    end = time.perf_counter() + _TIMED_S
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        session.run(None, feed)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def _candidates(
    options: TrainingOptions, images: ProbeImages
) -> Iterator[tuple[str, tuple[str, ...], tuple[int, int], int]]:
    """All that may be tried: the default layers with the default memory first, small inputs before large ones."""
    backbones = [options.backbone] if options.backbone else list(EFFICIENTNET_LITE)
    sizes = [options.size_hw] if options.size_hw else input_sizes(images.image_hw, images.aspects)
    for few_layers, memory in ((False, DEFAULT_MEMORY), (False, _SMALL_MEMORY), (True, DEFAULT_MEMORY)):
        if options.memory is not None:
            if memory != DEFAULT_MEMORY:
                continue
            memory = options.memory
        for backbone in backbones:
            layers = options.layers or backbone_defaults(backbone, None).layers
            if few_layers and (options.layers or len(layers) < 3):
                continue
            for size in sizes:
                yield backbone, (layers[0], layers[-1]) if few_layers else layers, size, memory


def _model(
    options: TrainingOptions, backbone: str, layers: tuple[str, ...], size: tuple[int, int], memory: int
) -> SimpleNet:
    chosen = dataclasses.replace(options, backbone=backbone, layers=layers, size_hw=size, memory=memory, device="cpu")
    return prepare(chosen)[0]


def _candidate(row: dict[str, Any]) -> Candidate:
    return from_dict(Candidate, row)


def _device_factor(options: TrainingOptions, path: Path) -> float:
    """How many times as long a frame takes on the device of a benchmark as here, from its model built anew.

    Raises DataError for a file that `simplenet-edge benchmark --json` did not write.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        config = from_dict(SimpleNetConfig, values["model"])
        height, width = (int(side) for side in values["model_hw"])
        single = [row["latency"]["p50_ms"] for row in values["results"] if row["scenario"] == "single-stream"]
        device_ms = float(min(single))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise DataError(
            f"{path}: expected what `simplenet-edge benchmark BUNDLE --json FILE` writes, with a single-stream row, "
            f"found none ({error}); run it on the device"
        ) from error
    base = dataclasses.replace(options, latency_ms=None, latency_from=None, weights=None, random_weights=True)
    return device_ms / frame_ms(_model(base, config.backbone, config.layers, (height, width), config.memory_size))
