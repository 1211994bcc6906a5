"""The TensorRT engines on a simulated GPU, and with the real library up to where it needs a GPU."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.cuda_driver import driver_problem
from simplenet_edge.engines.tensorrt import provision
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuildConfig
from simplenet_edge.engines.tensorrt.cuda_memory import Device
from simplenet_edge.engines.tensorrt.engine import TensorRTEngine, TensorRTRtxEngine
from simplenet_edge.engines.tensorrt.executor import PlanRefused, TensorRTExecutor
from simplenet_edge.engines.tensorrt.library import load_library
from simplenet_edge.engines.tensorrt.plan_store import PlanStore
from simplenet_edge.engines.tensorrt.provision import build_for_targets
from simplenet_edge.errors import EngineError, EngineUnavailable
from tests.bundles import HEIGHT, WIDTH, even_frames, predict, tiny_graph, with_spot, write_tiny_bundle
from tests.engines.conftest import Simulate
from tests.engines.tensorrt.simulated_gpu import HostMemory, simulated_build, simulated_library, simulated_plan


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """One of its own for each test: plans are stored in it."""
    return write_tiny_bundle(tmp_path / "tiny")


def executor(memory: HostMemory, max_batch: int = 4) -> TensorRTExecutor:
    library = simulated_library(lambda: memory)
    return TensorRTExecutor(library, memory, simulated_plan(tiny_graph(), max_batch), (HEIGHT, WIDTH), (HEIGHT, WIDTH))


# The executor.


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 8, 9])  # below, at and above the plan's 4
def test_every_batch_size_gives_the_graphs_numbers(batch: int) -> None:
    frames = np.concatenate([even_frames(batch - 1, seed=batch), with_spot(even_frames(1))])
    expected = predict(tiny_graph(), frames)
    found = executor(HostMemory()).predict(frames)
    np.testing.assert_array_equal(found.map, expected.map)
    np.testing.assert_array_equal(found.score, expected.score)


def test_a_steady_batch_is_recorded_once_and_replayed() -> None:
    memory = HostMemory()
    engine = executor(memory)
    assert (memory.recorded, memory.replayed) == (1, 1)  # the warm-up did it for single frames
    for seed in range(3):
        frames = even_frames(1, seed)
        np.testing.assert_array_equal(engine.predict(frames).map, predict(tiny_graph(), frames).map)
    assert (memory.recorded, memory.replayed) == (1, 4)
    assert engine.gpu_ms == 1.5


def test_a_graph_is_dropped_when_the_batch_changes() -> None:
    memory = HostMemory()
    engine = executor(memory)
    for batch in (2, 1, 2, 1):  # never twice in a row: not worth recording
        engine.predict(even_frames(batch))
    assert memory.recorded == 1
    for _ in range(3):
        engine.predict(even_frames(2))
    assert memory.recorded == 2


def test_a_stream_that_cannot_be_recorded_is_used_plainly(caplog: pytest.LogCaptureFixture) -> None:
    memory = HostMemory(can_capture=False)
    engine = executor(memory)
    frames = with_spot(even_frames(1))
    np.testing.assert_array_equal(engine.predict(frames).map, predict(tiny_graph(), frames).map)
    engine.predict(frames)
    assert memory.recorded == 0
    assert [record.message for record in caplog.records] == [
        "no CUDA graph, each call is queued anew (this stream can't be recorded)"
    ]


def test_a_plan_of_another_version_is_refused_in_tensorrts_words() -> None:
    memory = HostMemory()
    library = simulated_library(lambda: memory)
    with pytest.raises(PlanRefused, match=r"10.3.0 refuses the plan .*is of version 10.2.9, expected 10.3.0"):
        TensorRTExecutor(
            library, memory, simulated_plan(tiny_graph(), version="10.2.9"), (HEIGHT, WIDTH), (HEIGHT, WIDTH)
        )


# The engine: from a bundle to a plan that runs.


def test_the_first_opening_builds_and_the_second_does_not(
    bundle: Bundle, simulate: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    opened = simulate()
    engine = TensorRTEngine(bundle)
    assert not opened  # nothing on the GPU before it opens
    with engine:
        assert engine.provider == "tensorrt 10.3.0 on Orin"
        assert engine.gpu_ms == 1.5
        first = engine.plan
    assert opened[0].closed
    assert "building the fp32 engine for 8.7 Orin; this may take minutes" in caplog.text
    caplog.clear()
    with TensorRTEngine(bundle) as engine:
        assert engine.plan == first
    assert "building" not in caplog.text
    assert (bundle.path / "engines" / "timing-10.3.0-8.7-Orin.cache").read_bytes() == b"timings"


@pytest.mark.parametrize(
    ("version", "device", "reason"),
    [
        ("10.16.0", None, "built with version 10.3.0, here 10.16.0"),
        ("10.3.0", Device("Orin NX", "8.7"), "built for GPU 8.7 Orin, here 8.7 Orin NX"),
    ],
)
def test_a_plan_that_does_not_fit_is_named_and_built_again(
    bundle: Bundle,
    simulate: Simulate,
    caplog: pytest.LogCaptureFixture,
    version: str,
    device: Device | None,
    reason: str,
) -> None:
    simulate()
    with TensorRTEngine(bundle):
        pass
    simulate(version, device)
    with TensorRTEngine(bundle) as engine:
        engine.predict(even_frames(1))
    assert f"can't use a stored plan: {engine_plan_name(bundle, reason, caplog)}: {reason}" in caplog.text


def engine_plan_name(bundle: Bundle, reason: str, caplog: pytest.LogCaptureFixture) -> str:
    names = [path.name for path in (bundle.path / "engines").glob("*.plan")]
    return next(name for name in names if f"{name}: {reason}" in caplog.text)


def test_a_truncated_plan_is_built_again(bundle: Bundle, simulate: Simulate, caplog: pytest.LogCaptureFixture) -> None:
    simulate()
    with TensorRTEngine(bundle) as engine:
        assert engine.plan is not None
        plan = engine.plan.path
    whole = plan.read_bytes()
    plan.write_bytes(whole[:100])
    with TensorRTEngine(bundle):
        assert plan.read_bytes() == whole
    assert "its sidecar says" in caplog.text
    assert "it was cut off" in caplog.text


def test_a_whole_plan_that_tensorrt_refuses_is_built_again(
    bundle: Bundle, simulate: Simulate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    with TensorRTEngine(bundle) as engine:
        assert engine.plan is not None
    stale = simulated_build(simulated_library(HostMemory), bundle, "fp32", BuildConfig())
    stale = dataclasses.replace(stale, plan=simulated_plan(tiny_graph(), version="10.2.9"))
    PlanStore(bundle.path / "engines").save(engine.plan.key, stale)
    with TensorRTEngine(bundle) as engine:
        engine.predict(even_frames(1))
    assert "refuses the plan (The engine plan is of version 10.2.9, expected 10.3.0); building again" in caplog.text


def test_an_opening_that_fails_gives_the_memory_back(
    bundle: Bundle, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("no tactics")

    opened = simulate()
    monkeypatch.setattr(provision, "build_plan", fail)
    engine = TensorRTEngine(bundle)
    with pytest.raises(EngineError, match="no tactics"):
        engine.__enter__()
    assert opened[0].closed
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


def test_a_profile_is_built_when_it_is_asked_for(bundle: Bundle, simulate: Simulate) -> None:
    simulate()
    with TensorRTEngine(bundle) as engine:
        default = engine.plan
    with TensorRTEngine(bundle, profile=BatchProfile(8, 8)) as engine:
        assert engine.plan is not None
        assert engine.plan.key.max_batch == 8
    assert default is not None
    with TensorRTEngine(bundle, profile=BatchProfile()) as engine:
        assert engine.plan == default


def test_rebuild_builds_although_there_is_a_plan(
    bundle: Bundle, simulate: Simulate, caplog: pytest.LogCaptureFixture
) -> None:
    simulate()
    with TensorRTEngine(bundle):
        pass
    caplog.clear()
    with TensorRTEngine(bundle, rebuild=True):
        pass
    assert caplog.text.count("building the fp32 engine") == 1


def test_plans_go_where_they_are_told(bundle: Bundle, simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    with TensorRTEngine(bundle, cache=tmp_path / "cache"):
        pass
    assert list((tmp_path / "cache" / bundle.id).glob("*.plan"))
    assert not (bundle.path / "engines").exists()


def test_rtx_keeps_the_kernels_that_it_compiled(bundle: Bundle, simulate: Simulate) -> None:
    simulate("1.7.1", Device("RTX A2000", "8.6"))
    for content in (b"new", b"new+"):
        with TensorRTRtxEngine(bundle) as engine:
            engine.predict(even_frames(1))
            assert engine.plan is not None
        assert engine.plan.runtime_cache.read_bytes() == content
        assert engine.plan.key.gpus == ("8.6",)


# The real library.


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a usable NVIDIA GPU")
def test_without_a_gpu_the_real_engine_says_what_to_do(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineUnavailable, match=r"no NVIDIA driver.*--engine onnxruntime"):
        TensorRTRtxEngine(bundle).__enter__()


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a usable NVIDIA GPU")
@pytest.mark.parametrize(
    ("cut", "said"),
    [(None, "CUDA driver version is insufficient"), (100, "Serialization"), (0, "empty memory buffer")],
)
def test_the_real_runtime_refuses_in_its_own_words(bundle: Bundle, cut: int | None, said: str) -> None:
    """A whole plan without a driver, a truncated one, an empty one: None comes back, and the reason from the log."""
    pytest.importorskip("tensorrt_rtx")
    config = BuildConfig(BatchProfile(1, 2), capabilities=("8.6",))
    plan = build_for_targets(bundle, "fp32", config, progress=lambda *_: None).read()
    with pytest.raises(PlanRefused, match=said):
        TensorRTExecutor(load_library("tensorrt_rtx"), HostMemory(), plan[:cut], (HEIGHT, WIDTH), (HEIGHT, WIDTH))


def test_a_foreign_file_is_refused_in_the_real_runtimes_words() -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(PlanRefused, match="TRT engine file"):
        TensorRTExecutor(load_library("tensorrt_rtx"), HostMemory(), b"\x89PNG" * 100, (HEIGHT, WIDTH), (HEIGHT, WIDTH))


def test_absence_of_tensorrt_names_the_commands(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineUnavailable, match="python3-libnvinfer"):
        TensorRTEngine(bundle).__enter__()


def test_progress_is_logged_now_and_then(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.WARNING):
        report = provision.log_progress()
        for step in range(25):
            now[0] += 1
            report("Building engine", step + 1, 25)
    assert [record.message for record in caplog.records] == [
        "still building: Building engine, 10 of 25",
        "still building: Building engine, 20 of 25",
    ]
