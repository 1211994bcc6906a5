"""How fast engines and the way from camera frame to verdict are, on this machine, in figures that can be compared.

Three scenarios; the first two are MLPerf Inference's (Reddi et al. 2020), with golden frames already in memory:

    single-stream   one model frame a call, each call after the last; the figure is the latency, its 90th percentile
    offline         `batch` frames a call, all there from the start; the figure is the frames per second
    stream          decoded camera images uint8 `(H0, W0, 3)` BGR to verdicts and regions, `batch` cameras a call,
                    split by stage; the decoding and the sinks are not in it

Everything is measured in turns: each engine and scenario gets many short slices, spread over the whole run, so that
what else the machine does falls on all of them. Times are wall times of one call in milliseconds. Engines run as the
line runs them (OpenVINO with its latency hint), which may not be the most that a saturated device can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from simplenet_edge.benchmark.environment import Activity, environment, peak_rss_mib
from simplenet_edge.benchmark.results import BenchmarkConfig, BenchmarkResult, EngineFigures
from simplenet_edge.benchmark.turns import Run, take_turns, timed_ms
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import engine_names, engine_problem, open_engine
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.onnxruntime import OnnxRuntimeEngine
from simplenet_edge.engines.openvino import OpenVinoEngine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.spec import Frames, to_dict
from simplenet_edge.system import resident_bytes

if TYPE_CHECKING:
    from simplenet_edge.runtime.sources.base import Source

__all__ = ["BenchmarkConfig", "Candidate", "all_candidates", "benchmark", "camera_images"]

_ON_CPU = (OnnxRuntimeEngine.name, OpenVinoEngine.name)


@dataclass(frozen=True)
class Candidate:
    """An engine to measure, as `open_engine` takes it."""

    engine: str = "auto"
    precision: str = "fp32"
    threads: int | None = None


def all_candidates(bundle: Bundle, threads: int | None = None) -> list[Candidate]:
    """Every engine that can run here with every precision of the bundle; the fake engine is none of them.

    `threads` is for those that compute on the CPU.
    """
    names = [name for name in engine_names() if name not in ("auto", FakeEngine.name) and engine_problem(name) is None]
    return [
        Candidate(name, precision, threads if name in _ON_CPU else None)
        for name in names
        for precision in bundle.manifest.precisions
    ]


def benchmark(
    bundle: Bundle,
    candidates: Sequence[Candidate] = (Candidate(),),
    config: BenchmarkConfig | None = None,
    images: Sequence[Frames] | None = None,
    progress: Progress = ignore,
) -> BenchmarkResult:
    """Measure engines of a bundle, in turns. `images` are decoded camera images uint8 `(H0, W0, 3)` BGR.

    Without them, the golden frames are scaled to `config.camera_hw`. What an engine can't do is one of the `failures`;
    raises what it said where nothing is left to measure. Raises DataError for an empty list of images.
    """
    config = config or BenchmarkConfig()
    if images is not None and not images:
        raise DataError("expected at least one camera image, found none")
    images = _scaled_golden(bundle, config) if images is None else images
    told = environment()
    with ExitStack() as stack:
        opened, errors = _open_all(stack, bundle, candidates)
        runs: list[Run] = []
        for engine, _ in opened:
            for scenario in config.scenarios:
                for batch in (1,) if scenario == "single-stream" else config.batch_sizes:
                    run = Run(engine, scenario, batch, images)
                    try:
                        run.warm_up(config.max_warmup)
                    except EngineError as error:
                        errors.append((run.label, error))
                    else:
                        runs.append(run)
        if not runs:
            raise errors[0][1] if errors else ConfigError("no engine was named")
        activity = Activity()
        take_turns(runs, config.duration_s, progress)
        return BenchmarkResult(
            bundle_id=bundle.id,
            bundle=bundle.manifest.name,
            model=to_dict(bundle.manifest.model),
            config=config,
            model_hw=bundle.frame_hw,
            camera_sizes_hw=tuple(sorted({(image.shape[0], image.shape[1]) for image in images})),
            environment=told,
            activity=activity.shares(),
            peak_rss_mib=peak_rss_mib(),
            engines=tuple(figures for _, figures in opened),
            results=tuple(run.figures() for run in runs),
            failures=tuple(f"{label}: {error}" for label, error in errors),
        )


def _open_all(
    stack: ExitStack, bundle: Bundle, candidates: Sequence[Candidate]
) -> tuple[list[tuple[Engine, EngineFigures]], list[tuple[str, EngineError]]]:
    frame = bundle.golden()[0][:1]
    opened: list[tuple[Engine, EngineFigures]] = []
    errors: list[tuple[str, EngineError]] = []
    for candidate in candidates:
        memory = resident_bytes()
        try:
            engine = open_engine(bundle, candidate.engine, candidate.precision, candidate.threads)
            open_ms = timed_ms(partial(stack.enter_context, engine))
            first_ms = timed_ms(partial(engine.predict, frame))
            replayed = verify(engine)
        except EngineError as error:
            errors.append((f"{candidate.engine} {candidate.precision}", error))
            continue
        after = resident_bytes()
        figures = EngineFigures(
            engine=engine.name,
            provider=engine.provider,
            precision=engine.precision,
            threads=engine.threads,
            open_ms=open_ms,
            first_ms=first_ms,
            rss_mib=None if memory is None or after is None else (after - memory) / 2**20,
            score_drift=replayed.max_relative_score_difference,
            map_drift=replayed.max_relative_map_difference,
            flips=replayed.flips,
            agrees=replayed.passed,
        )
        opened.append((engine, figures))
    return opened, errors


def camera_images(source: Source, at_most: int = 16) -> list[Frames]:
    """The first images of a source, decoded, for `stream`; raises DataError where it has none, and SourceError."""
    images: list[Frames] = []
    error: str | None = None
    with source:
        for record in source.frames():
            if record.image is not None and record.error is None:
                images.append(record.image)
            error = error or record.error
            if len(images) == at_most:
                break
    if not images:
        raise DataError(f"{source.name}: no image to start from ({error or 'it is empty'}); check the source")
    return images


def _scaled_golden(bundle: Bundle, config: BenchmarkConfig) -> list[Frames]:
    golden, _ = bundle.golden()
    height, width = config.camera_hw or bundle.manifest.frame_hw or (1080, 1920)
    return [np.asarray(cv2.resize(frame, (width, height)), np.uint8) for frame in golden]
