"""How fast an engine and a detector are, on this machine, with figures that can be compared.

Two figures for each batch size: the engine alone (model frames already in memory -> scores and maps) and end to end
(camera images uint8 `(H0, W0, 3)` BGR in memory -> verdicts). Neither holds the camera or the decoding of files. Times
are wall times of one call in milliseconds; frames a second count every frame of a call. Calls run one after another:
latency with nothing else going on, not the throughput of a saturated device.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import cv2
import numpy as np

from simplenet_edge import __version__
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.machine import OPENCV_WHEELS, cpu_count, cpu_model, installed_version
from simplenet_edge.spec import Frames

__all__ = ["BatchResult", "BenchmarkConfig", "BenchmarkResult", "Latency", "benchmark"]

_WIDE_CV = 0.1  # spread of the calls, as a share of their mean, from which a warning is given
_WINDOW = 5  # calls on either side of the comparison that ends the warm-up
_STEADY = 0.05  # warmed up when the medians of two windows differ by less than this share
_LIBRARIES = {
    "numpy": ("numpy",),
    "opencv": OPENCV_WHEELS,
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx",),
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured: for each batch size, `iterations` calls, or as many as fit in `duration_s` where that is None.

    `max_warmup` calls at most go before them, fewer when the time is steady earlier. `camera_hw` is the size in pixels
    of the images that end-to-end calls start from, when no image is given.
    """

    batch_sizes: tuple[int, ...] = (1,)
    duration_s: float = 5.0
    iterations: int | None = None
    max_warmup: int = 50
    camera_hw: tuple[int, int] = (1080, 1920)

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(f"batch sizes must be at least 1, not {self.batch_sizes}")
        if self.iterations is not None and self.iterations < 2:
            raise ConfigError(f"iterations must be at least 2, not {self.iterations}")
        if not self.duration_s > 0:
            raise ConfigError(f"duration_s must be positive, not {self.duration_s}")
        if self.max_warmup < 0:
            raise ConfigError(f"max_warmup must be at least 0, not {self.max_warmup}")
        if min(self.camera_hw) < 1:
            raise ConfigError(f"camera_hw must be positive, not {self.camera_hw}")


@dataclass(frozen=True)
class Latency:
    """Wall time of a call in milliseconds; `cv` is the standard deviation over the mean."""

    calls: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cv: float
    frames_per_s: float
    warmup_calls: int


@dataclass(frozen=True)
class BatchResult:
    """The figures of one batch size. `stages_ms` splits the mean end-to-end call."""

    batch: int
    engine_only: Latency
    end_to_end: Latency
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class BenchmarkResult:
    """The figures and all that is needed to compare them with others."""

    bundle_id: str
    engine: str
    provider: str
    precision: str
    threads: int | None
    model_hw: tuple[int, int]
    camera_hw: tuple[int, int]
    cpu: str
    cpu_count: int
    platform: str
    versions: dict[str, str]
    batches: tuple[BatchResult, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def benchmark(
    engine: Engine, config: BenchmarkConfig | None = None, images: list[Frames] | None = None
) -> BenchmarkResult:
    """Measure an open engine. `images` are camera images uint8 `(H0, W0, 3)` BGR of one size.

    Without them, the golden frames are scaled to `config.camera_hw`; the engine alone always gets golden frames.
    Raises DataError for images of different sizes, and what the engine raises.
    """
    config = config or BenchmarkConfig()
    detector = Detector(engine)
    golden, _ = engine.bundle.golden()
    if images is None:
        height, width = config.camera_hw
        images = [np.asarray(cv2.resize(frame, (width, height)), np.uint8) for frame in golden]
    if not images or len({image.shape for image in images}) > 1:
        raise DataError(f"expected images of one size, found {sorted({image.shape for image in images})}")
    batches = tuple(_measure(detector, golden, images, batch, config) for batch in config.batch_sizes)
    return BenchmarkResult(
        bundle_id=engine.bundle.id,
        engine=engine.name,
        provider=engine.provider,
        precision=engine.precision,
        threads=engine.threads,
        model_hw=engine.frame_hw,
        camera_hw=(images[0].shape[0], images[0].shape[1]),
        cpu=cpu_model(),
        cpu_count=cpu_count(),
        platform=platform.platform(),
        versions=_versions(),
        batches=batches,
        warnings=tuple(_warnings(batches)),
    )


def _measure(
    detector: Detector, golden: Frames, images: list[Frames], batch: int, config: BenchmarkConfig
) -> BatchResult:
    frames = np.stack([golden[i % len(golden)] for i in range(batch)])
    camera_images = [images[i % len(images)] for i in range(batch)]
    engine_only = _time(lambda: detector.engine.predict(frames), batch, config)

    stages: list[tuple[float, float, float]] = []

    def inspect() -> None:
        times = detector.inspect_batch(camera_images)[0].times  # each image's share of the call
        stages.append((times.preprocess_ms * batch, times.infer_ms * batch, times.post_ms * batch))

    end_to_end = _time(inspect, batch, config)
    split = np.mean(stages[end_to_end.warmup_calls :], axis=0)
    names = ("preprocess", "infer", "post")
    return BatchResult(batch, engine_only, end_to_end, dict(zip(names, split.tolist(), strict=True)))


def _time(call: Callable[[], object], batch: int, config: BenchmarkConfig) -> Latency:
    warmup_calls = _warm_up(call, config.max_warmup)
    durations: list[float] = []
    started = time.perf_counter()
    while not _is_done(len(durations), time.perf_counter() - started, config):
        durations.append(_timed_ms(call))
    calls_ms = np.array(durations)
    p50, p90, p99 = np.percentile(calls_ms, (50, 90, 99)).tolist()
    mean = float(calls_ms.mean())
    return Latency(
        calls=len(durations),
        mean_ms=mean,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=float(calls_ms.max()),
        cv=float(calls_ms.std() / mean),
        frames_per_s=batch * 1000 / mean,
        warmup_calls=warmup_calls,
    )


def _is_done(calls: int, elapsed_s: float, config: BenchmarkConfig) -> bool:
    if config.iterations is not None:
        return calls >= config.iterations
    return calls >= 2 and elapsed_s >= config.duration_s


def _warm_up(call: Callable[[], object], max_calls: int) -> int:
    durations: list[float] = []
    while len(durations) < max_calls:
        durations.append(_timed_ms(call))
        if len(durations) >= 2 * _WINDOW:
            before, after = median(durations[-2 * _WINDOW : -_WINDOW]), median(durations[-_WINDOW:])
            if abs(after - before) < _STEADY * before:
                break
    return len(durations)


def _timed_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _versions() -> dict[str, str]:
    found = {name: installed_version(*distributions) for name, distributions in _LIBRARIES.items()}
    return {
        "simplenet-edge": __version__,
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version is not None},
    }


def _warnings(batches: tuple[BatchResult, ...]) -> list[str]:
    return [
        f"batch {result.batch}, {what}: the calls spread by {latency.cv:.0%} of their mean; "
        "close other programs, fix the clock speed, or measure longer"
        for result in batches
        for what, latency in (("engine only", result.engine_only), ("end to end", result.end_to_end))
        if latency.cv > _WIDE_CV
    ]
