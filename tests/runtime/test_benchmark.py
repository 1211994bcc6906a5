from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.runtime.benchmark import BenchmarkConfig, benchmark
from simplenet_edge.spec import Frames, Prediction
from tests.bundles import HEIGHT, WIDTH

SERVICE_MS = 5.0


def test_figures_are_those_of_the_engine(bundle: Bundle) -> None:
    with FakeEngine(bundle, service_time_ms=SERVICE_MS) as engine:
        result = benchmark(engine, BenchmarkConfig(batch_sizes=(1, 4), iterations=10, max_warmup=3))
        # two batch sizes, engine only and end to end, 3 + 10 calls each
        assert engine.calls == 2 * 2 * 13
    for batch in result.batches:
        for latency in (batch.engine_only, batch.end_to_end):
            assert (latency.calls, latency.warmup_calls) == (10, 3)
            assert SERVICE_MS <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms <= latency.max_ms
            assert SERVICE_MS <= latency.mean_ms <= latency.max_ms
            assert latency.frames_per_s == pytest.approx(batch.batch * 1000 / latency.mean_ms)
        assert batch.stages_ms["infer"] >= SERVICE_MS
        assert batch.stages_ms["preprocess"] > 0
        assert sum(batch.stages_ms.values()) == pytest.approx(batch.end_to_end.mean_ms, rel=0.2)
    assert [batch.batch for batch in result.batches] == [1, 4]


def test_the_record_says_what_ran_where(bundle: Bundle) -> None:
    with open_engine(bundle, "onnxruntime", threads=1) as engine:
        result = benchmark(engine, BenchmarkConfig(iterations=2, camera_hw=(90, 160)))
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["bundle_id"] == bundle.id
    assert (values["engine"], values["provider"], values["precision"]) == (
        "onnxruntime",
        "CPUExecutionProvider",
        "fp32",
    )
    assert values["threads"] == 1
    assert values["model_hw"] == [HEIGHT, WIDTH]
    assert values["camera_hw"] == [90, 160]
    assert values["cpu"]
    assert values["cpu_count"] >= 1
    assert values["versions"]["onnxruntime"] == onnxruntime.__version__
    assert {"simplenet-edge", "python", "numpy"} <= set(values["versions"])


def test_warms_up_until_it_is_steady(bundle: Bundle) -> None:
    with FakeEngine(bundle, service_time_ms=SERVICE_MS) as engine:
        result = benchmark(engine, BenchmarkConfig(iterations=2, max_warmup=1000))
    assert 10 <= result.batches[0].engine_only.warmup_calls < 1000


def test_runs_for_the_time_asked_for(bundle: Bundle) -> None:
    with FakeEngine(bundle, service_time_ms=SERVICE_MS) as engine:
        result = benchmark(engine, BenchmarkConfig(duration_s=0.1, max_warmup=0))
    assert 2 <= result.batches[0].engine_only.calls <= 100 / SERVICE_MS + 1


class ColdStart(FakeEngine):
    """The first calls of the second measurement, end to end, are slow."""

    def _predict(self, frames: Frames) -> Prediction:
        self.service_time_ms = 50.0 if 8 <= self.calls < 11 else 0.0
        return super()._predict(frames)


def test_warm_up_counts_nowhere(bundle: Bundle) -> None:
    with ColdStart(bundle) as engine:
        result = benchmark(engine, BenchmarkConfig(iterations=5, max_warmup=3))  # 3 + 5 calls, twice
    assert result.batches[0].end_to_end.max_ms < 50
    assert result.batches[0].stages_ms["infer"] < 15


class Hiccup(FakeEngine):
    """Every fifth call takes ten times as long."""

    def _predict(self, frames: Frames) -> Prediction:
        self.service_time_ms = 20.0 if self.calls % 5 == 0 else 2.0
        return super()._predict(frames)


def test_a_wide_spread_gives_a_warning(bundle: Bundle) -> None:
    with Hiccup(bundle) as engine:
        result = benchmark(engine, BenchmarkConfig(iterations=10, max_warmup=0))
    assert result.batches[0].engine_only.cv > 0.5
    assert any(warning.startswith("batch 1, engine only: the calls spread by") for warning in result.warnings)


def test_given_images_are_used(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine:
        images = [np.zeros((20, 30, 3), np.uint8)]
        assert benchmark(engine, BenchmarkConfig(iterations=2), images).camera_hw == (20, 30)
        for wrong in ([], [images[0], np.zeros((20, 31, 3), np.uint8)]):
            with pytest.raises(DataError, match="images of one size"):
                benchmark(engine, BenchmarkConfig(iterations=2), wrong)


def test_a_closed_engine_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="not open"):
        benchmark(open_engine(bundle), BenchmarkConfig(iterations=2))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_sizes": ()},
        {"batch_sizes": (1, 0)},
        {"iterations": 1},  # one call has no spread
        {"duration_s": 0.0},
        {"duration_s": float("nan")},
        {"max_warmup": -1},
        {"camera_hw": (0, 10)},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BenchmarkConfig(**options)  # type: ignore[arg-type]
