from __future__ import annotations

import pytest

from simplenet_edge.runtime.controllers import Answer, Controller, Request
from simplenet_edge.runtime.sources import Controlled, SyntheticCamera, SyntheticParts
from tests.waiting import SOON_S, until


class Broken(Controller):
    """Fails in a way that no controller should, until it is `mended`."""

    name = "broken"
    mended = False
    seen = Answer()

    def open(self) -> None:
        pass

    def exchange(self, answer: Answer, watchdog: bool) -> Request:
        self.seen = answer
        if not self.mended:
            raise ZeroDivisionError("a bug")
        return Request()

    def close(self) -> None:
        if not self.mended:
            raise ZeroDivisionError("another bug")


def test_a_bug_in_a_controller_is_told_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    controller = Broken()
    source = Controlled(SyntheticCamera(SyntheticParts((64, 48)), fps=100), controller, SOON_S)
    source.patient = True
    with source:
        until(lambda: source.fault)
        assert source.fault == "the controller is away: a bug"
        controller.mended = True
        until(lambda: source.fault is None)
        until(lambda: controller.seen.ready)
    assert {record.levelname for record in caplog.records if record.exc_info} == {"ERROR"}
