from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.benchmark.results import SCENARIOS, BenchmarkConfig
from simplenet_edge.benchmark.run import Candidate, all_candidates, benchmark, camera_images
from simplenet_edge.benchmark.turns import Run, take_turns
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import BundleError, ConfigError, DataError, EngineInputError
from simplenet_edge.runtime.sources import open_source
from simplenet_edge.spec import Frames, Prediction
from tests.bundles import HEIGHT, WIDTH, write_tiny_bundle

SERVICE_MS = 5.0
BRIEFLY = BenchmarkConfig(duration_s=0.05, max_warmup=3, camera_hw=(90, 160))
FAKE = (Candidate("fake"),)
IMAGES = [np.zeros((90, 160, 3), np.uint8)]


@pytest.fixture
def fake(bundle: Bundle) -> Iterator[FakeEngine]:
    with FakeEngine(bundle, service_time_ms=SERVICE_MS) as engine:
        yield engine


def run_of(engine: FakeEngine, scenario: str, batch: int, duration_s: float = 0.01, max_warmup: int = 3) -> Run:
    """A finished measurement, alone."""
    run = Run(engine, scenario, batch, IMAGES)  # type: ignore[arg-type]
    run.warm_up(max_warmup)
    take_turns([run], duration_s)
    return run


@pytest.mark.parametrize(("scenario", "batch"), [("single-stream", 1), ("offline", 4), ("stream", 2)])
def test_figures_are_those_of_the_engine(fake: FakeEngine, scenario: str, batch: int) -> None:
    figures = run_of(fake, scenario, batch).figures()
    latency = figures.latency
    assert latency.calls == 20  # one a slice: the slices are shorter than a call
    assert fake.calls == 3 + 20
    assert figures.warmup_calls == 3
    assert SERVICE_MS <= latency.p50_ms <= latency.p90_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms
    low, high = latency.mean_ci_ms
    assert low <= latency.mean_ms <= high
    assert figures.frames_per_s == pytest.approx(batch * 1000 / latency.mean_ms)
    assert len(figures.samples_ms) == 20


def test_stream_is_split_by_stage_and_the_others_are_the_engine_alone(fake: FakeEngine) -> None:
    figures = run_of(fake, "stream", 2).figures()
    assert figures.stages_ms is not None
    assert list(figures.stages_ms) == ["preprocess", "engine", "postprocess"]
    assert figures.stages_ms["engine"] >= SERVICE_MS
    assert figures.stages_ms["preprocess"] > 0
    assert sum(figures.stages_ms.values()) <= figures.latency.mean_ms
    assert run_of(fake, "offline", 2).figures().stages_ms is None


class Recorded(FakeEngine):
    """Keeps who was called, in order, in a list that several engines share."""

    log: list[tuple[str, int]]

    def _predict(self, frames: Frames) -> Prediction:
        self.log.append((self.precision, len(frames)))
        return super()._predict(frames)


def test_engines_take_turns_in_changing_order(bundle: Bundle) -> None:
    with Recorded(bundle) as first, Recorded(bundle) as second:
        first.log = second.log = []
        runs = [Run(first, "offline", 1, IMAGES), Run(second, "offline", 2, IMAGES)]
        take_turns(runs, 0.02)
        slices = [batch for i, (_, batch) in enumerate(first.log) if i == 0 or first.log[i - 1][1] != batch]
    assert slices == [1] + [2, 1] * 10  # 1 2, 2 1, 1 2, ...: neighbours of one kind melt together
    # what comes right after another engine is dropped
    assert sum(len(run.calls_ms) for run in runs) < len(first.log)


def test_warm_up_and_what_follows_another_engine_count_nowhere(bundle: Bundle) -> None:
    with FakeEngine(bundle) as engine, FakeEngine(bundle) as other:
        runs = [Run(engine, "stream", 1, IMAGES), Run(other, "stream", 1, IMAGES)]
        for run in runs:
            run.warm_up(3)
        take_turns(runs, 0.02)
        assert engine.calls > 3 + len(runs[0].calls_ms)
    assert len(runs[0].stages_ms) == len(runs[0].calls_ms)


def test_warms_up_until_it_is_steady(fake: FakeEngine) -> None:
    run = Run(fake, "offline", 1, IMAGES)
    run.warm_up(1000)
    assert 10 <= run.warmup_calls < 1000


def test_the_result_says_what_ran_where(bundle: Bundle) -> None:
    config = BenchmarkConfig(batch_sizes=(1, 3), duration_s=0.05, max_warmup=2, camera_hw=(90, 160))
    seen: list[tuple[str, int, int]] = []
    result = benchmark(bundle, (Candidate("onnxruntime", threads=1),), config, progress=lambda *told: seen.append(told))
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["bundle_id"] == bundle.id
    (engine,) = values["engines"]
    assert (engine["engine"], engine["provider"], engine["precision"], engine["threads"]) == (
        "onnxruntime",
        "CPUExecutionProvider",
        "fp32",
        1,
    )
    assert engine["open_ms"] > 0
    assert engine["first_ms"] > 0
    assert (engine["score_drift"], engine["flips"], engine["agrees"]) == (0.0, 0, True)
    assert [(row["scenario"], row["batch"]) for row in values["results"]] == [
        ("single-stream", 1),
        ("offline", 1),
        ("offline", 3),
        ("stream", 1),
        ("stream", 3),
    ]
    assert values["model_hw"] == [HEIGHT, WIDTH]
    assert values["camera_sizes_hw"] == [[90, 160]]
    assert values["peak_rss_mib"] > 10
    assert values["failures"] == []
    assert seen[-1] == ("measuring", 20, 20)


def test_an_engine_that_does_not_agree_is_told_apart(bundle: Bundle) -> None:
    result = benchmark(bundle, FAKE, BRIEFLY)
    assert result.engines[0].agrees is False
    assert result.engines[0].score_drift > 0


def test_all_engines_and_precisions(tmp_path: Path, bundle: Bundle) -> None:
    record = bundle.manifest.precisions["fp32"]
    both = write_tiny_bundle(tmp_path / "both", precisions={"fp32": record, "fp16": record})
    candidates = all_candidates(both, threads=1)
    assert Candidate("onnxruntime", "fp32", 1) in candidates
    assert Candidate("onnxruntime", "fp16", 1) in candidates
    assert "fake" not in {one.engine for one in candidates}
    result = benchmark(both, candidates, BenchmarkConfig(("single-stream",), duration_s=0.05, max_warmup=2))
    assert [(one.engine, one.precision) for one in result.engines] == [
        (one.engine, one.precision) for one in candidates
    ]


def test_what_cannot_run_is_a_failure_beside_the_others(bundle: Bundle) -> None:
    named = (Candidate("tensorrt"), Candidate("fake"))  # no GPU, or no TensorRT, or no engine for a tiny graph
    if any(one.engine == "tensorrt" for one in all_candidates(bundle)):
        pytest.skip("TensorRT can run here")
    result = benchmark(bundle, named, BRIEFLY)
    assert [one.engine for one in result.engines] == ["fake"]
    (failure,) = result.failures
    assert failure.startswith("tensorrt fp32: ")


def test_with_nothing_left_to_measure_the_engines_error_is_raised(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no int8 graph"):
        benchmark(bundle, (Candidate("onnxruntime", "int8"),), BRIEFLY)
    with pytest.raises(ConfigError, match="no threads to set"):
        benchmark(bundle, (Candidate("fake", threads=2),), BRIEFLY)
    with pytest.raises(ConfigError, match="no engine was named"):
        benchmark(bundle, (), BRIEFLY)


class OneFrame(FakeEngine):
    """Takes no batches."""

    def _predict(self, frames: Frames) -> Prediction:
        if len(frames) > 1:
            raise EngineInputError("at most one frame")
        return super()._predict(frames)


def test_a_batch_that_an_engine_refuses_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simplenet_edge.benchmark.run.open_engine", lambda *_: OneFrame(bundle))
    config = BenchmarkConfig(("single-stream", "offline"), (4,), 0.05, 2)
    result = benchmark(bundle, FAKE, config)
    assert [row.scenario for row in result.results] == ["single-stream"]
    assert result.failures == ("fake fp32, offline, batch 4: at most one frame",)


def test_given_images_are_used(bundle: Bundle, parts: Path) -> None:
    images = camera_images(open_source(str(parts)), at_most=2)
    assert len(images) == 2
    result = benchmark(bundle, FAKE, BRIEFLY, [*images, np.zeros((20, 30, 3), np.uint8)])
    assert result.camera_sizes_hw == ((20, 30), images[0].shape[:2])
    with pytest.raises(DataError, match="at least one camera image"):
        benchmark(bundle, FAKE, BRIEFLY, [])


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="no image"):
        camera_images(open_source(str(tmp_path)))


def test_every_scenario_of_a_full_hd_camera_by_default(bundle: Bundle) -> None:
    result = benchmark(bundle, FAKE, BenchmarkConfig(duration_s=0.05, max_warmup=2))
    assert tuple(row.scenario for row in result.results) == SCENARIOS
    assert result.camera_sizes_hw == ((1080, 1920),)


@pytest.mark.parametrize(
    "options",
    [
        {"scenarios": ()},
        {"scenarios": ("server",)},  # MLPerf's third; nothing here sends frames by chance
        {"batch_sizes": ()},
        {"batch_sizes": (1, 0)},
        {"duration_s": 0.0},
        {"duration_s": float("nan")},
        {"duration_s": float("inf")},
        {"max_warmup": -1},
        {"camera_hw": (0, 10)},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BenchmarkConfig(**options)  # type: ignore[arg-type]


def test_the_engines_are_closed_afterwards(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def remembered(*arguments: object) -> object:
        opened.append(open_engine(*arguments))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr("simplenet_edge.benchmark.run.open_engine", remembered)
    benchmark(bundle, FAKE, BRIEFLY)
    with opened[0]:  # only a closed engine opens again
        pass
