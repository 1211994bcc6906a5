"""The contract of every engine, tried on each; one that can't run on this machine is skipped with the reason."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from simplenet_edge.engines import Engine
from simplenet_edge.errors import EngineError, EngineInputError
from simplenet_edge.spec import Frames, Prediction
from tests.bundles import HEIGHT, WIDTH, even_frames, with_spot


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


def test_names_its_provider_while_it_is_open(engine: Engine) -> None:
    with engine:
        assert any(name in engine.provider for name in ("CPU", "numpy", "CUDA", "tensorrt"))


@pytest.mark.parametrize("cut", [lambda p: Prediction(p.score[1:], p.map), lambda p: Prediction(p.score, p.map[:, 1:])])
def test_results_of_another_shape_are_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch, cut: Any) -> None:
    real_predict = engine._predict
    monkeypatch.setattr(engine, "_predict", lambda frames: cut(real_predict(frames)))
    with engine, pytest.raises(EngineError, match="for 2 frames"):
        engine.predict(even_frames(2))
