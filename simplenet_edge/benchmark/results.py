"""What is measured and what came out: plain frozen values, as they stand in the JSON of `simplenet-edge benchmark`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from simplenet_edge.benchmark.statistics import Latency
from simplenet_edge.errors import ConfigError

__all__ = [
    "SCENARIOS",
    "SCHEMA",
    "BenchmarkConfig",
    "BenchmarkResult",
    "EngineFigures",
    "Scenario",
    "ScenarioFigures",
]

SCHEMA = 1
"""The version of the JSON that `BenchmarkResult.to_dict` gives."""

Scenario = Literal["single-stream", "offline", "stream"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

_MOST_FRAMES = 4096  # in one call: more would only fill the memory


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured, for each engine."""

    scenarios: tuple[Scenario, ...] = SCENARIOS
    batch_sizes: tuple[int, ...] = (1,)  # single-stream has batch 1 only
    duration_s: float = 10.0  # of each scenario and batch size
    max_warmup: int = 50  # calls before; fewer where the time is steady earlier
    camera_hw: tuple[int, int] | None = None  # of stream's images; None: what the bundle takes, or 1080x1920

    def __post_init__(self) -> None:
        if not self.scenarios or not set(self.scenarios) <= set(SCENARIOS):
            raise ConfigError(f"scenarios are {', '.join(SCENARIOS)}, not {', '.join(self.scenarios) or 'none'}")
        if not self.batch_sizes or min(self.batch_sizes) < 1 or max(self.batch_sizes) > _MOST_FRAMES:
            raise ConfigError(f"batch sizes must be at least 1, at most {_MOST_FRAMES}, not {self.batch_sizes}")
        if not 0 < self.duration_s < float("inf"):
            raise ConfigError(f"duration_s must be positive, not {self.duration_s}")
        if self.max_warmup < 0:
            raise ConfigError(f"max_warmup must be at least 0, not {self.max_warmup}")
        if self.camera_hw is not None and min(self.camera_hw) < 1:
            raise ConfigError(f"camera_hw must be positive, not {self.camera_hw}")


@dataclass(frozen=True)
class EngineFigures:
    """What really ran, and what it took to start: `open_ms` with the import of its library where that was not loaded.

    `rss_mib` is what opening and the first inference added to the process. Drifts are those of `verify`: from the FP32
    golden scores and maps, as shares of the golden maps' range; `agrees` is whether the bundle allows them.
    """

    engine: str
    provider: str
    precision: str
    threads: int | None
    open_ms: float
    first_ms: float
    rss_mib: float | None
    score_drift: float
    map_drift: float
    flips: int
    agrees: bool


@dataclass(frozen=True)
class ScenarioFigures:
    """One measurement. `stages_ms` splits the mean call of `stream`; `samples_ms` are at most 2000 of its calls.

    `mj_per_frame` is the energy of the processor packages in its slices, with all else that ran; null where unknown.
    """

    engine: str
    precision: str
    scenario: Scenario
    batch: int
    frames_per_s: float
    latency: Latency
    stages_ms: dict[str, float] | None
    mj_per_frame: float | None
    warmup_calls: int
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class BenchmarkResult:
    """The figures and all that is needed to compare them with others. `failures` says what could not be measured."""

    bundle_id: str
    bundle: str
    model: dict[str, Any]  # its configuration, from which the same network can be built elsewhere
    config: BenchmarkConfig
    model_hw: tuple[int, int]
    camera_sizes_hw: tuple[tuple[int, int], ...]
    environment: dict[str, Any]
    activity: dict[str, float] | None
    peak_rss_mib: float
    engines: tuple[EngineFigures, ...]
    results: tuple[ScenarioFigures, ...]
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}
