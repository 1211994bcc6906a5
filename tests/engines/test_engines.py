"""The contract of every engine, tried on each of them."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import Engine, choose_engine, engine_names, open_engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.ort import OnnxRuntimeEngine
from simplenet_edge.errors import BundleError, ConfigError, EngineError, EngineInputError, EngineUnavailable
from simplenet_edge.spec import Frames, Prediction
from tests.bundles import HEIGHT, WIDTH, even_frames, predict, tiny_graph, with_spot, write_tiny_bundle

ENGINES = [name for name in engine_names() if name != "auto"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Engine:
    """Each engine, not open yet."""
    return open_engine(bundle, request.param)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_gives_the_types_and_shapes_of_the_contract(engine: Engine, batch: int) -> None:
    with engine:
        score, anomaly_map = engine.predict(even_frames(batch))
    assert (score.dtype, score.shape) == (np.float32, (batch,))
    assert (anomaly_map.dtype, anomaly_map.shape) == (np.float32, (batch, HEIGHT, WIDTH))


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_a_frame_scores_the_same_in_any_batch(engine: Engine, batch: int) -> None:
    frames = np.concatenate([even_frames(batch - 1), with_spot(even_frames(1))])
    with engine:
        together = engine.predict(frames)
        alone = [engine.predict(frames[i : i + 1]) for i in range(batch)]
    np.testing.assert_allclose(together.score, np.concatenate([p.score for p in alone]), rtol=1e-5)
    np.testing.assert_allclose(together.map, np.concatenate([p.map for p in alone]), rtol=1e-5, atol=1e-4)


def test_a_spot_scores_higher_and_is_where_the_map_peaks(engine: Engine) -> None:
    good = even_frames(1)
    with engine:
        good_score = engine.predict(good).score[0]
        spotted = engine.predict(with_spot(good))
    row, column = np.unravel_index(spotted.map[0].argmax(), spotted.map[0].shape)
    assert spotted.score[0] > 2 * good_score
    assert 10 <= row < 14
    assert 20 <= column < 24


def test_results_belong_to_the_caller(engine: Engine) -> None:
    with engine:
        first = engine.predict(even_frames(2))
        kept = Prediction(first.score.copy(), first.map.copy())
        first_frames = even_frames(2)
        engine.predict(with_spot(first_frames))
        first_frames[:] = 0
    np.testing.assert_array_equal(first.score, kept.score)
    np.testing.assert_array_equal(first.map, kept.map)
    first.map[:] = 0  # and may be written to


def test_frames_are_read_and_not_changed(engine: Engine) -> None:
    frames = even_frames(2)
    frames.flags.writeable = False
    with engine:
        engine.predict(frames)


def test_frames_that_are_views_give_the_same_as_their_copies(engine: Engine) -> None:
    wide = even_frames(4, seed=3)
    view = wide[::-2, ::-1]
    with engine:
        np.testing.assert_array_equal(engine.predict(view).map, engine.predict(view.copy()).map)


BROKEN_FRAMES = {
    "float pixels": even_frames(1).astype(np.float32) / 255,
    "signed pixels": even_frames(1).astype(np.int8),
    "16-bit pixels": even_frames(1).astype(np.uint16),
    "no batch axis": even_frames(1)[0],
    "an empty batch": even_frames(1)[:0],
    "channels first": np.ascontiguousarray(even_frames(1).transpose(0, 3, 1, 2)),
    "height and width swapped": np.ascontiguousarray(even_frames(1).transpose(0, 2, 1, 3)),
    "another size": np.zeros((1, HEIGHT, WIDTH + 1, 3), np.uint8),
    "grey": even_frames(1)[..., :1],
    "a list": even_frames(1).tolist(),
}


@pytest.mark.parametrize("frames", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_frames_that_break_the_contract_are_refused_and_spoil_nothing(engine: Engine, frames: Frames) -> None:
    with engine:
        before = engine.predict(even_frames(1))
        with pytest.raises(EngineInputError, match=r"expected .* found"):
            engine.predict(frames)
        np.testing.assert_array_equal(engine.predict(even_frames(1)).map, before.map)


def test_is_refused_before_it_is_open_and_after_it_is_closed(engine: Engine) -> None:
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))
    with engine:
        pass
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


def test_closes_twice_and_opens_again_but_not_twice(engine: Engine) -> None:
    engine.close()
    with engine:
        first = engine.predict(even_frames(1))
        with pytest.raises(EngineError, match="open already"):
            engine.__enter__()
    engine.close()
    engine.close()
    with engine:
        np.testing.assert_array_equal(engine.predict(even_frames(1)).map, first.map)


def test_is_closed_when_the_block_raises(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


def test_a_second_thread_is_refused_while_a_call_runs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    running, go_on = threading.Event(), threading.Event()
    real_predict = engine._predict

    def slow_predict(frames: Frames) -> Prediction:
        running.set()
        assert go_on.wait(10)
        return real_predict(frames)

    monkeypatch.setattr(engine, "_predict", slow_predict)
    results: list[Prediction] = []
    with engine:
        thread = threading.Thread(target=lambda: results.append(engine.predict(even_frames(1))))
        thread.start()
        assert running.wait(10)
        with pytest.raises(EngineError, match="busy in another thread"):
            engine.predict(even_frames(1))
        go_on.set()
        thread.join()
        np.testing.assert_array_equal(engine.predict(even_frames(1)).map, results[0].map)


@pytest.mark.parametrize("where", ["score", "map"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str, value: float
) -> None:
    real_predict = engine._predict

    def spoiled_infer(frames: Frames) -> Prediction:
        prediction = real_predict(frames)
        getattr(prediction, where)[-1] = value
        return prediction

    monkeypatch.setattr(engine, "_predict", spoiled_infer)
    with engine, pytest.raises(EngineError, match="not finite"):
        engine.predict(even_frames(2))


def test_names_its_provider(engine: Engine) -> None:
    with engine:
        assert engine.provider in ("CPUExecutionProvider", "numpy")


# What only ONNX Runtime does.


def test_onnxruntime_gives_what_the_library_gives(bundle: Bundle) -> None:
    frames = with_spot(even_frames(3))
    expected = predict(bundle.graph(), frames)
    with OnnxRuntimeEngine(bundle) as engine:
        found = engine.predict(frames)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.map, expected.map)


def test_onnxruntime_gives_the_golden_numbers_with_any_number_of_threads(bundle: Bundle) -> None:
    frames, golden = bundle.golden()
    for threads in (1, 2, None):
        engine = OnnxRuntimeEngine(bundle, threads=threads)
        with engine:
            assert engine._session.get_session_options().intra_op_num_threads == (threads or 0)
            np.testing.assert_allclose(engine.predict(frames).map, golden.map, rtol=1e-5, atol=1e-4)


BROKEN_GRAPHS = {
    "a fixed batch": (tiny_graph(batch=1), r"score tensor\(float\)\(1\)"),
    "another size": (tiny_graph(height=HEIGHT + 8), rf"frames tensor\(uint8\)\(B, {HEIGHT + 8}, {WIDTH}, 3\)"),
    "float frames": (tiny_graph(frames_type=TensorProto.FLOAT), r"found frames tensor\(float\)"),
    "another output": (tiny_graph(score_name="logit"), r"logit tensor\(float\)\(B\)"),
}


@pytest.mark.parametrize(("graph", "found"), BROKEN_GRAPHS.values(), ids=BROKEN_GRAPHS.keys())
def test_onnxruntime_refuses_a_graph_that_breaks_the_contract(tmp_path: Path, graph: bytes, found: str) -> None:
    engine = OnnxRuntimeEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match=rf"breaks the contract: expected .*{found}.*export again"):
        engine.__enter__()
    with pytest.raises(EngineError, match="not open"):
        engine.predict(even_frames(1))


@pytest.mark.parametrize("graph", [b"", b"not a graph", tiny_graph()[:200]], ids=["empty", "text", "cut off"])
def test_onnxruntime_refuses_bytes_that_are_no_graph(tmp_path: Path, graph: bytes) -> None:
    engine = OnnxRuntimeEngine(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(EngineError, match="can't load the fp32 graph") as caught:
        engine.__enter__()
    assert "\n" not in str(caught.value)


def test_onnxruntime_refuses_a_graph_whose_numbers_run_away(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", tiny_graph(last_op="Log"))
    with OnnxRuntimeEngine(bundle) as engine, pytest.raises(EngineError, match="not finite"):
        engine.predict(even_frames(1))


def test_onnxruntime_has_a_provider_only_while_it_is_open(bundle: Bundle) -> None:
    engine = OnnxRuntimeEngine(bundle)
    with pytest.raises(EngineError, match="not open"):
        _ = engine.provider
    with engine:
        assert engine.provider == "CPUExecutionProvider"
    with pytest.raises(EngineError, match="not open"):
        _ = engine.provider


def test_onnxruntime_missing_names_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"run: pip install 'simplenet-edge\[ort\]'"):
        open_engine(bundle, "onnxruntime").__enter__()
    with pytest.raises(EngineUnavailable, match=r"run: pip install 'simplenet-edge\[ort\]'"):
        choose_engine("auto")


# What only the fake engine does.


def test_fake_fails_on_the_calls_it_was_told_to(bundle: Bundle) -> None:
    with FakeEngine(bundle, fail_on=(1,)) as engine:
        engine.predict(even_frames(1))
        with pytest.raises(EngineError, match="call 1"):
            engine.predict(even_frames(1))
        engine.predict(even_frames(1))
        assert engine.calls == 3
    with engine:
        assert engine.calls == 0  # counted from each opening


def test_fake_takes_its_service_time(bundle: Bundle) -> None:
    with FakeEngine(bundle, service_time_ms=20) as engine:
        started = time.perf_counter()
        engine.predict(even_frames(1))
        assert time.perf_counter() - started >= 0.02
    with pytest.raises(ConfigError, match="service_time_ms"):
        FakeEngine(bundle, service_time_ms=-1)


# The choice.


def test_auto_takes_onnxruntime_and_says_why(bundle: Bundle) -> None:
    choice = choose_engine()
    assert choice.name == "onnxruntime"
    assert "onnxruntime is here" in choice.reason
    assert isinstance(open_engine(bundle), OnnxRuntimeEngine)


def test_an_engine_asked_for_by_name_is_that_engine(bundle: Bundle) -> None:
    assert isinstance(open_engine(bundle, "fake"), FakeEngine)
    assert choose_engine("fake").reason == "asked for by name"


def test_options_that_cannot_work_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no engine is called 'tensorflow'; known are auto, onnxruntime, fake"):
        open_engine(bundle, "tensorflow")
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        open_engine(bundle, "onnxruntime", threads=0)
    with pytest.raises(ConfigError, match="no threads to set"):
        open_engine(bundle, "fake", threads=2)
    with pytest.raises(BundleError, match="no int8 graph; it has fp32"):
        open_engine(bundle, "onnxruntime", precision="int8").__enter__()
