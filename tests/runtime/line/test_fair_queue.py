from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.runtime.line.fair_queue import FairQueue
from tests.waiting import SOON_S


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 5), min_size=1), st.integers(1, 3), st.integers(1, 4))
def test_all_items_come_in_order_and_never_two_of_a_camera_at_once(
    counts: dict[str, int], depth: int, most: int
) -> None:
    fair_queue: FairQueue[tuple[str, int]] = FairQueue(list(counts), depth)

    def fill(camera: str, count: int) -> None:
        for i in range(count):
            assert fair_queue.put(camera, (camera, i))
        fair_queue.finish(camera)

    threads = [in_thread(lambda c=camera, n=count: fill(c, n)) for camera, count in counts.items()]  # type: ignore[misc]
    found: dict[str, list[int]] = {camera: [] for camera in counts}
    while (items := fair_queue.take(most, SOON_S)) is not None:
        cameras = [camera for camera, _ in items]
        assert 1 <= len(items) <= most
        assert len(set(cameras)) == len(cameras)
        for camera, i in items:
            found[camera].append(i)
    for thread in threads:
        thread.join(SOON_S)
    assert found == {camera: list(range(count)) for camera, count in counts.items()}


def test_a_busy_camera_does_not_crowd_out_another() -> None:
    fair_queue: FairQueue[str] = FairQueue(["a", "b"], 4)
    for item in ("a1", "a2", "a3"):
        fair_queue.put("a", item)
    fair_queue.put("b", "b1")
    assert [fair_queue.take(1, 0), fair_queue.take(1, 0)] == [["a1"], ["b1"]]


def test_nothing_comes_in_time() -> None:
    assert FairQueue(["a"], 1).take(1, 0.01) == []


def test_closing_lets_go_of_who_waits_and_keeps_what_is_queued() -> None:
    fair_queue: FairQueue[int] = FairQueue(["a"], 1)
    assert fair_queue.put("a", 1)
    refused: list[bool] = []
    waiting = in_thread(lambda: refused.append(fair_queue.put("a", 2)))
    fair_queue.close()
    waiting.join(SOON_S)
    assert refused == [False]
    assert fair_queue.take(1, 0) == [1]
    assert fair_queue.take(1, 0) is None


@pytest.mark.parametrize("end", ["finish", "close"])
def test_who_waits_to_take_is_told_the_end(end: str) -> None:
    fair_queue: FairQueue[int] = FairQueue(["a"], 1)
    found: list[object] = []
    waiting = in_thread(lambda: found.append(fair_queue.take(1, SOON_S)))
    fair_queue.finish("a") if end == "finish" else fair_queue.close()
    waiting.join(SOON_S)
    assert found == [None]
