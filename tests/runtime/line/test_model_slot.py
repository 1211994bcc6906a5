from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import BundleError, ConfigError, EngineError, ParityError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.process import signals_handled
from simplenet_edge.runtime.line.shadow import Shadow
from simplenet_edge.spec import OperatingPoint
from tests.bundles import even_frames, tiny_graph, write_tiny_bundle
from tests.runtime.belts import Kept, LiveBelt
from tests.runtime.line.test_line import running
from tests.waiting import SOON_S, until


def bundle_with_threshold(path: Path, threshold: float) -> Bundle:
    return write_tiny_bundle(path, operating_point=OperatingPoint(threshold, 0.05, 40, True))


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A bundle that finds every part bad."""
    return bundle_with_threshold(tmp_path / "strict", 1.0).path


def is_open(engine: Engine) -> bool:
    try:
        engine.predict(even_frames(1))
    except EngineError:
        return False
    return True


def test_a_loader_gives_an_open_engine_that_agrees_with_the_bundle(bundle: Bundle) -> None:
    detector = ModelLoader(bundle.path, threads=1).load()
    assert detector.inspect(even_frames(1)[0]).verdict == "OK"
    detector.engine.close()


def test_a_bundle_whose_golden_frames_drift_is_not_loaded(tmp_path: Path) -> None:
    good, other = write_tiny_bundle(tmp_path / "good"), tiny_graph().replace(b"Abs", b"Neg")
    assert other != tiny_graph()
    drifting = write_tiny_bundle(tmp_path / "drifting", graph=other)
    with pytest.raises(ParityError):
        ModelLoader(drifting.path).load()
    ModelLoader(drifting.path, check=False).load().engine.close()
    ModelLoader(good.path).load().engine.close()


def test_swap_to_the_new_bundle_at_the_path_between_two_frames(bundle: Bundle, strict: Path) -> None:
    belt, kept = LiveBelt(), Kept()
    with open_engine(bundle) as engine:
        line = Line([belt], Detector(engine), [kept], reload=ModelLoader(strict).load)
        with running(line):
            belt.step(3)
            kept.wait_for(3)
            assert Bundle(strict).id in line.swap()
            assert not is_open(engine)
            belt.step(3)
            kept.wait_for(6)
            model = line.status.snapshot().to_dict()["model"]
    assert kept.verdicts == ["OK"] * 3 + ["NG"] * 3
    assert [result.bundle_id for result in kept.results] == [bundle.id] * 3 + [Bundle(strict).id] * 3
    assert [result.threshold for result in kept.results[-3:]] == [1.0] * 3
    assert line.status.snapshot().to_dict()["model"]["swaps"] == 1
    assert model["swap_error"] is None


def test_a_swap_that_fails_leaves_the_model_in_use(bundle: Bundle, tmp_path: Path) -> None:
    belt, kept = LiveBelt(), Kept()
    with open_engine(bundle) as engine:
        line = Line([belt], Detector(engine), [kept], reload=ModelLoader(tmp_path / "missing").load)
        with running(line):
            belt.step()
            with pytest.raises(BundleError, match="no such bundle"):
                line.swap()
            belt.step()
            kept.wait_for(2)
        assert is_open(engine)
    assert {result.bundle_id for result in kept.results} == {bundle.id}
    assert "no such bundle" in line.status.snapshot().to_dict()["model"]["swap_error"]


def test_a_bundle_for_other_camera_frames_is_refused_and_closed(bundle: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "camera", frame_hw=(32, 48))
    loaded: list[Detector] = []

    def load() -> Detector:
        loaded.append(ModelLoader(other.path, check=False).load())
        return loaded[0]

    with open_engine(bundle) as engine:
        line = Line([LiveBelt()], Detector(engine), reload=load)
        with running(line), pytest.raises(ConfigError, match="camera frames"):
            line.swap()
    assert not is_open(loaded[0].engine)


def test_nothing_to_swap_to(bundle: Bundle) -> None:
    with open_engine(bundle, "fake") as engine:
        line = Line([LiveBelt()], Detector(engine))
        with running(line), pytest.raises(ConfigError, match="no model to swap to"):
            line.swap()


def test_however_many_hangups_come_there_is_one_swap_more() -> None:
    started, release = threading.Event(), threading.Event()
    calls: list[int] = []

    def on_hangup() -> None:
        calls.append(1)
        started.set()
        release.wait(SOON_S)

    with signals_handled(threading.Event(), on_hangup):
        signal.raise_signal(signal.SIGHUP)
        assert started.wait(SOON_S)
        for _ in range(60):
            signal.raise_signal(signal.SIGHUP)
        release.set()
        until(lambda: len(calls) == 2)
        signal.raise_signal(signal.SIGHUP)
        until(lambda: len(calls) == 3)


def test_a_hangup_swaps(bundle: Bundle, strict: Path) -> None:
    belt, kept = LiveBelt(), Kept()

    def loaded() -> Detector:
        detector = ModelLoader(strict).load()
        belt.step(20)  # once it is loaded, frames come to both models
        return detector

    belt.event = lambda: os.kill(os.getpid(), signal.SIGHUP)
    belt.at, belt.count = 0, 20
    belt.step(1)
    with open_engine(bundle) as engine:
        Line([belt], Detector(engine), [kept], reload=loaded).run()
    assert len(kept.results) == 20
    assert kept.verdicts == sorted(kept.verdicts, reverse=True)  # OK first, then NG: never back


def test_a_shadow_decides_nothing_and_is_promoted(bundle: Bundle, strict: Path) -> None:
    belt, kept = LiveBelt(bad=(1,)), Kept()
    second = ModelLoader(strict).load()
    with open_engine(bundle) as engine, Shadow(second) as shadow:
        line = Line([belt], Detector(engine), [kept], shadow=shadow, reload=ModelLoader(bundle.path).load)
        with running(line):
            for count in range(1, 4):
                belt.step()
                kept.wait_for(count)
            counts = line.status.snapshot().to_dict()["shadow"]
            assert counts is None or counts["bundle_id"] == second.bundle_id
            assert kept.verdicts == ["OK", "NG", "OK"]
            line.swap()
            final = shadow.snapshot()
            assert final.compared + final.skipped == 3
            assert final.disagreed == final.ok_to_ng <= 2
            assert final.ng_to_ok == 0
            belt.step()
            kept.wait_for(4)
            with pytest.raises(ConfigError, match="no model to swap to"):  # never back to the old one
                line.swap()
    assert kept.verdicts[-1] == "NG"
    assert kept.results[-1].bundle_id == second.bundle_id
    assert not is_open(second.engine)  # the line's own, once it was promoted


def test_a_shadow_that_fails_is_not_put_in_use(bundle: Bundle, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other")
    belt, kept = LiveBelt(), Kept()
    with (
        open_engine(bundle) as engine,
        FakeEngine(other, fail_on=(0,)) as failing,
        Shadow(Detector(failing)) as shadow,
    ):
        line = Line([belt], Detector(engine), [kept], shadow=shadow)
        with running(line):
            belt.step()
            until(lambda: shadow.snapshot().error)
            with pytest.raises(EngineError, match="the shadow fails on frames of this line"):
                line.swap()
            belt.step()
            until(lambda: shadow.snapshot().error is None)  # it has come to itself
            assert other.id in line.swap()
    assert {result.bundle_id for result in kept.results} == {bundle.id}
