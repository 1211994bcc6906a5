from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np
import pytest

from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.serving.batcher import Batch, BatchConfig, Batcher, Unavailable
from simplenet_edge.spec import Frames, Prediction
from tests.waiting import SOON_S, until


def frames(*values: int) -> Frames:
    """Frames of one pixel each."""
    return np.repeat(np.array(values, np.uint8), 3).reshape(-1, 1, 1, 3)


class Gate:
    """Scores a frame as its first value; each call waits to be let through."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.batches: list[Batch] = []
        self.open = threading.Event()

    def __call__(self, given: Frames) -> Prediction:
        self.calls.append(given[:, 0, 0, 0].tolist())
        assert self.open.wait(SOON_S)
        if 255 in self.calls[-1]:
            raise EngineError("the GPU fell off the bus")
        score = given[:, 0, 0, 0].astype(np.float32)
        return Prediction(score, score[:, None, None])


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def held(stack: ExitStack, gate: Gate, config: BatchConfig) -> tuple[Batcher, Future[Prediction]]:
    """A batcher whose engine is at work on a frame 0."""
    batcher = stack.enter_context(Batcher(gate, config, gate.batches.append))
    stack.callback(gate.open.set)
    first = batcher.submit(frames(0))
    until(lambda: gate.calls)
    return batcher, first


def scores(future: Future[Prediction]) -> list[float]:
    prediction = future.result(SOON_S)
    assert prediction.map.shape == (len(prediction.score), 1, 1)
    return prediction.score.tolist()


def test_what_waits_together_is_computed_together_and_told_apart(gate: Gate) -> None:
    with ExitStack() as stack:
        batcher, first = held(stack, gate, BatchConfig(max_batch=4, queue=16))
        waiting = [batcher.submit(frames(*values)) for values in ((1,), (2, 3), (4, 5), (6,))]
        assert batcher.waiting() == 6
        gate.open.set()
        assert [scores(one) for one in (first, *waiting)] == [[0], [1], [2, 3], [4, 5], [6]]
    assert gate.calls == [[0], [1, 2, 3], [4, 5, 6]]  # no request is cut in two
    assert [(batch.frames, len(batch.queue_s), batch.failed) for batch in gate.batches] == [
        (1, 1, False),
        (3, 2, False),
        (3, 2, False),
    ]


def test_a_request_waits_for_others_until_the_batch_is_full(gate: Gate) -> None:
    gate.open.set()
    with Batcher(gate, BatchConfig(max_batch=2, wait_ms=1000), gate.batches.append) as batcher:
        assert [scores(one) for one in [batcher.submit(frames(1)), batcher.submit(frames(2))]] == [[1], [2]]
    assert gate.calls == [[1, 2]]


def test_a_full_queue_refuses_at_once(gate: Gate) -> None:
    with ExitStack() as stack:
        batcher, first = held(stack, gate, BatchConfig(max_batch=2, queue=3))
        kept = [batcher.submit(frames(1, 2)), batcher.submit(frames(3))]
        with pytest.raises(Unavailable, match="room for 1 frames, found 3 of 3 waiting"):
            batcher.submit(frames(4))
        gate.open.set()
        assert [scores(one) for one in (first, *kept)] == [[0], [1, 2], [3]]
        assert scores(batcher.submit(frames(5))) == [5]


def test_who_left_is_not_computed_for(gate: Gate) -> None:
    with ExitStack() as stack:
        batcher, first = held(stack, gate, BatchConfig(max_batch=4, queue=8))
        gone, kept = batcher.submit(frames(1)), batcher.submit(frames(2))
        assert gone.cancel()
        assert not first.cancel()  # too late for that
        gate.open.set()
        assert scores(kept) == [2]
    assert gate.calls == [[0], [2]]
    assert batcher.waiting() == 0


def test_a_call_that_fails_is_told_to_its_clients_and_the_next_one_works(gate: Gate) -> None:
    with ExitStack() as stack:
        batcher, first = held(stack, gate, BatchConfig(max_batch=2, queue=8))
        bad = [batcher.submit(frames(1)), batcher.submit(frames(255))]
        good = batcher.submit(frames(3))
        gate.open.set()
        for one in bad:
            with pytest.raises(EngineError, match="fell off the bus"):
                one.result(SOON_S)
        assert scores(first) + scores(good) == [0, 3]
    assert [batch.failed for batch in gate.batches] == [False, True, False]


def test_what_waits_at_the_end_is_computed(gate: Gate) -> None:
    with ExitStack() as stack:
        batcher, first = held(stack, gate, BatchConfig(max_batch=1))
        waiting = batcher.submit(frames(1))
        batcher.close()
        with pytest.raises(Unavailable, match="about to end"):
            batcher.submit(frames(2))
        gate.open.set()
    assert scores(first) + scores(waiting) == [0, 1]


@pytest.mark.parametrize(
    ("max_batch", "wait_ms", "queue"),
    [(0, 0, 8), (-1, 0, 8), (8, -1, 8), (8, float("nan"), 8), (8, 2000, 8), (8, 0, 7)],
)
def test_configs_that_are_refused(max_batch: int, wait_ms: float, queue: int) -> None:
    with pytest.raises(ConfigError):
        BatchConfig(max_batch, wait_ms, queue)
