from __future__ import annotations

import gc
import threading
import weakref
from typing import ClassVar

import pytest

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks import Sink
from simplenet_edge.runtime.sinks.worker import SinkWorker, WorkerTimings
from simplenet_edge.runtime.snapshot import SinkSnapshot
from tests.runtime.sinks.results import result, worker
from tests.waiting import until


class Shelf(Sink):
    """A sink that the test stops (`gate`), breaks (`broken`) and looks into."""

    name = "shelf"

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.opened = 0
        self.closed = 0
        self.idled = 0
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.broken: Exception | None = None
        self.will_not_open: Exception | None = None

    def open(self) -> None:
        if self.will_not_open is not None:
            raise self.will_not_open
        self.opened += 1

    def write(self, result: FrameResult) -> None:
        self.busy.set()
        assert self.gate.wait(60)
        if self.broken is not None:
            raise self.broken
        self.ids.append(result.record.frame_id)

    def idle(self) -> bool:
        self.idled += 1
        return False

    def close(self) -> None:
        self.closed += 1


class PictureShelf(Shelf):
    needs_images: ClassVar[bool] = True
    capacity: ClassVar[int] = 3


class NowOrNever(Shelf):
    newest_only: ClassVar[bool] = True


@pytest.mark.parametrize("wait", [True, False])
def test_everything_is_written_in_order_and_closed(wait: bool) -> None:
    shelf = Shelf()
    with worker(shelf, wait=wait) as line:
        for n in range(500):
            line.submit(result(n))
    assert shelf.ids == list(range(500))
    assert (shelf.opened, shelf.closed) == (1, 1)
    assert line.snapshot() == SinkSnapshot(500, 0, 0, None)


def test_a_live_line_is_never_held_up_and_loses_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    with worker(shelf, capacity=3, wait=False) as line:
        line.submit(result(0))
        assert shelf.busy.wait(60)  # it has 0 in hand
        for n in range(1, 10):
            line.submit(result(n))
        assert line.snapshot() == SinkSnapshot(0, 6, 4, None)
        shelf.gate.set()
    assert shelf.ids == [0, 7, 8, 9]
    assert line.snapshot() == SinkSnapshot(4, 6, 0, None)
    assert [record.message for record in caplog.records] == [
        "shelf: results are lost: it is slower than the line",
        "shelf: it has caught up; 6 results are lost since the start",
    ]


def test_a_recorded_line_waits_for_room() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    submitted = threading.Event()

    def submit() -> None:
        for n in range(5):
            line.submit(result(n))
        submitted.set()

    with worker(shelf, capacity=2, wait=True) as line:
        thread = threading.Thread(target=submit)
        thread.start()
        until(lambda: line.snapshot().waiting == 3)
        assert not submitted.is_set()
        shelf.gate.set()
        thread.join(60)
    assert submitted.is_set()
    assert shelf.ids == [0, 1, 2, 3, 4]


def test_a_live_line_goes_on_through_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.broken = SinkError("the disk is full")
    with worker(shelf, wait=False) as line:
        for n in range(5):
            line.submit(result(n))
        until(lambda: shelf.opened > 3)
        assert line.snapshot() == SinkSnapshot(0, 0, 5, "the disk is full")
        shelf.broken = None
        until(lambda: line.snapshot().written == 5)
        assert line.snapshot().error is None
    assert shelf.ids == [0, 1, 2, 3, 4]
    assert shelf.closed == shelf.opened
    assert [r.message for r in caplog.records] == ["shelf: the disk is full", "shelf: it takes results again"]


def test_a_live_line_starts_without_its_sink() -> None:
    shelf = Shelf()
    shelf.will_not_open = SinkError("no broker")
    with worker(shelf, wait=False) as line:
        assert line.snapshot().error == "no broker"
        line.submit(result(0))
        shelf.will_not_open = None
        until(lambda: shelf.ids == [0])


def test_a_bug_in_a_sink_is_logged_with_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.broken = ZeroDivisionError("a bug")
    with worker(shelf, wait=False) as line:
        line.submit(result(0))
        until(lambda: line.snapshot().error == "a bug")
        shelf.broken = None
        line.submit(result(1))
        until(lambda: shelf.ids == [1])
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("error", [ConfigError("no such option"), SimpleNetEdgeError("run: pip install")])
def test_what_no_waiting_mends_is_raised_at_the_start(wait: bool, error: Exception) -> None:
    shelf = Shelf()
    shelf.will_not_open = error
    with pytest.raises(type(error), match=str(error)):
        worker(shelf, wait=wait).open()
    assert shelf.closed == 0


def test_a_recorded_line_does_not_start_without_its_sink() -> None:
    shelf = Shelf()
    shelf.will_not_open = SinkError("no broker")
    with pytest.raises(SinkError, match="no broker"):
        worker(shelf, wait=True).open()


def test_a_recorded_line_hears_of_a_failure_when_it_submits() -> None:
    shelf = Shelf()
    shelf.broken = SinkError("the disk is full")
    line = worker(shelf, wait=True)
    line.open()
    line.submit(result(0))
    until(lambda: line.snapshot().error)
    for _ in range(2):
        with pytest.raises(SinkError, match="the disk is full"):
            line.submit(result(1))
    line.close()  # it was told
    assert line.snapshot() == SinkSnapshot(0, 3, 0, "the disk is full")
    assert shelf.closed == 1


def test_a_recorded_line_hears_of_a_failure_of_the_last_result_at_the_end() -> None:
    shelf = Shelf()
    shelf.broken = SinkError("the disk is full")
    with pytest.raises(SinkError, match="the disk is full"), worker(shelf, wait=True) as line:
        line.submit(result(0))


def test_a_failure_does_not_hide_the_error_that_ended_the_line() -> None:
    shelf = Shelf()
    shelf.broken = SinkError("the disk is full")

    def run() -> None:
        with worker(shelf, wait=True) as line:
            line.submit(result(0))
            until(lambda: line.snapshot().error)
            raise KeyError

    with pytest.raises(KeyError):
        run()


def test_a_blocked_line_is_let_go_when_its_sink_fails() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    shelf.broken = SinkError("the disk is full")
    raised: list[Exception] = []

    def submit() -> None:
        try:
            for n in range(5):
                line.submit(result(n))
        except SinkError as error:
            raised.append(error)

    with worker(shelf, capacity=1, wait=True) as line:
        thread = threading.Thread(target=submit)
        thread.start()
        until(lambda: line.snapshot().waiting == 2)
        shelf.gate.set()
        thread.join(60)
    assert [str(error) for error in raised] == ["the disk is full"]


@pytest.mark.parametrize("wait", [True, False])
def test_a_sink_that_hangs_does_not_hang_the_shutdown(wait: bool) -> None:
    shelf = Shelf()
    shelf.gate.clear()
    line = SinkWorker(shelf, wait=wait, timings=WorkerTimings(flush_s=0.05, close_s=0.05))
    line.open()
    for n in range(4):
        line.submit(result(n))
    assert shelf.busy.wait(60)
    if wait:
        with pytest.raises(SinkError, match=r"4 results were not written in 0\.05 s"):
            line.close()
    else:
        line.close()
    lost = SinkSnapshot(0, 4, 0, None)
    assert line.snapshot() == lost
    shelf.gate.set()  # it wakes up too late, and is not counted twice
    until(lambda: shelf.closed == 1)
    assert line.snapshot() == lost


def test_what_can_not_be_written_at_the_end_is_lost_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.broken = SinkError("the broker is away")
    line = SinkWorker(shelf, wait=False, timings=WorkerTimings(flush_s=0.1))
    line.open()
    for n in range(4):
        line.submit(result(n))
    line.close()
    assert line.snapshot() == SinkSnapshot(0, 4, 0, "the broker is away")
    assert caplog.records[-1].message == "shelf: results are lost: the broker is away"
    line.submit(result(5))  # after the end: lost too
    assert line.snapshot().lost == 5


def test_an_old_verdict_is_not_written_where_that_would_mislead() -> None:
    shelf = NowOrNever()
    shelf.broken = SinkError("the controller is away")
    with worker(shelf, wait=False) as line:
        line.submit(result(0))
        until(lambda: shelf.opened == 2)  # it is opened again, not written to
        assert line.snapshot() == SinkSnapshot(0, 1, 0, "the controller is away")
        shelf.broken = None
        line.submit(result(1))
        until(lambda: line.snapshot().written + line.snapshot().lost == 2)
    assert 0 not in shelf.ids


def test_numbers_are_kept_and_images_are_not() -> None:
    seen: list[FrameResult] = []

    class Reader(Shelf):
        def write(self, result: FrameResult) -> None:
            seen.append(result)

    given = result(7, "NG")
    with worker(Reader(), wait=True) as line:
        line.submit(given)
    (got,) = seen
    assert got.to_dict() == given.to_dict()
    assert got.record.image is None
    assert got.detection is not None
    assert got.detection.map.size == got.detection.frame.size == 0


def test_a_sink_for_images_gets_them_and_a_short_queue() -> None:
    shelf = PictureShelf()
    shelf.gate.clear()
    given = result(0)
    alive = weakref.ref(given)
    with worker(shelf, wait=False) as line:
        line.submit(given)
        assert shelf.busy.wait(60)
        for n in range(1, 9):
            line.submit(result(n))
        assert line.snapshot().waiting == 1 + PictureShelf.capacity
        del given
        shelf.gate.set()
        until(lambda: line.snapshot().waiting == 0)

        def is_gone() -> bool:
            gc.collect()
            return alive() is None

        until(is_gone, "the end of the image")  # while the worker still runs


def test_idles_while_there_is_nothing_to_write() -> None:
    shelf = Shelf()
    with worker(shelf, wait=False):
        until(lambda: shelf.idled > 3)


def test_a_sink_with_a_fault_idles_after_pauses_that_grow() -> None:
    shelf = Shelf()
    shelf.fault = "the broker is away"
    with SinkWorker(shelf, wait=False, timings=WorkerTimings(retry_s=(0.01, 3600.0), idle_s=0.0)) as line:
        until(lambda: shelf.idled == 4)  # after 0.01, 0.02, 0.04 s
        for n in range(5):  # a result is no reason to ask sooner
            line.submit(result(n))
        until(lambda: line.snapshot().written == 5)
        assert shelf.idled < 8


def test_counts_what_a_sink_holds_and_loses_by_itself() -> None:
    shelf = Shelf()
    shelf.waiting, shelf.lost, shelf.fault = 5, 2, "the broker is away"
    with worker(shelf, wait=False) as line:
        assert line.snapshot() == SinkSnapshot(0, 2, 5, "the broker is away")


def test_a_recorded_line_fails_where_a_sink_gives_up_a_result() -> None:
    class Leaky(Shelf):
        def write(self, result: FrameResult) -> None:
            self.lost += 1

    with pytest.raises(SinkError, match="shelf lost 1 results"), worker(Leaky(), wait=True) as line:
        line.submit(result(0))


def test_a_line_starts_as_soon_as_its_sink_is_open() -> None:
    with SinkWorker(Shelf(), wait=True, timings=WorkerTimings(idle_s=3600)) as line:  # it would give up after 10 s
        assert line.snapshot().error is None
        line.submit(result(0))


def test_a_queue_holds_something() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        worker(Shelf(), capacity=0, wait=True)


def test_after_the_second_ctrl_c_a_sink_that_hangs_is_not_waited_for_and_its_losses_count() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    line = SinkWorker(shelf, wait=False, timings=WorkerTimings(flush_s=3600))
    line.open()
    for n in range(4):
        line.submit(result(n))
    assert shelf.busy.wait(60)
    line.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert line.snapshot().lost == 4
    shelf.gate.set()


def test_a_result_that_brings_out_a_bug_stands_in_nobody_s_way() -> None:
    class Buggy(Shelf):
        def write(self, result: FrameResult) -> None:
            if result.record.frame_id == 1:
                raise ZeroDivisionError("a bug")
            super().write(result)

    shelf = Buggy()
    with worker(shelf, wait=False) as line:
        for n in range(4):
            line.submit(result(n))
        until(lambda: line.snapshot() == SinkSnapshot(3, 1, 0, None))
    assert shelf.ids == [0, 2, 3]
