"""Against python-snap7's server, as the controller of a plant: real frames through a real line."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.controllers import Answer, Request, S7Address, S7Controller, open_controller
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.recipes import RecipeConfig
from simplenet_edge.runtime.sources import Controlled, SyntheticCamera, SyntheticParts, open_source
from tests.runtime.belts import Kept
from tests.runtime.controllers.plc import DB, Plc, served
from tests.runtime.line.test_line import running
from tests.waiting import SOON_S, until


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def detector(bundle: Bundle) -> Iterator[Detector]:
    with open_engine(bundle, "onnxruntime", threads=1) as engine:
        yield Detector(engine)


@pytest.fixture
def plc(port: int) -> Iterator[Plc]:
    plc = Plc()
    with served(plc, port):
        yield plc


def controlled(port: int, timeout_s: float = SOON_S, start: int = 0) -> Controlled:
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=200)
    return Controlled(camera, open_controller(f"s7:127.0.0.1:{port}/DB{DB},start={start}"), timeout_s)


@pytest.mark.parametrize("text", ["plc/DB1", "plc:102/db1,start=0,rack=0,slot=1"])
def test_addresses(text: str) -> None:
    assert S7Address.parse(text) == S7Address("plc", 1)
    assert str(S7Address.parse("10.0.0.1:1102/DB7,slot=2,start=4")) == "s7:10.0.0.1:1102/DB7"


def test_the_signals_are_where_the_map_says(plc: Plc, port: int) -> None:
    controller = S7Controller(S7Address("127.0.0.1", DB, port))
    plc.block[100] = 0b00100100  # what an earlier run left: OK of nobody knows which part
    controller.open()
    assert (plc.block[100], plc.told().part_id) == (0b10000000, "")
    plc.trigger("SN-4711", "gear")
    answer = Answer(valid=True, part_id="SN-4711", verdict="NG", score=1.5, reason="x" * 200)
    assert controller.exchange(answer, watchdog=True) == Request(trigger=True, part_id="SN-4711", recipe="gear")
    assert plc.block[100] == 0b01010100
    told = plc.told()
    assert (told.part_id, told.score, told.reason) == ("SN-4711", 1.5, "x" * 126)
    plc.put_bits(trigger=False, acknowledge=True)
    assert controller.exchange(Answer(ready=True), watchdog=False).acknowledge
    assert (plc.block[100], plc.told().part_id, plc.told().score) == (0b10000001, "", 0.0)
    controller.close()
    assert plc.block[100] == 0b10000000
    with pytest.raises(SourceError, match="is not open"):
        controller.exchange(Answer(), watchdog=False)


def test_each_part_gets_its_own_verdict(plc: Plc, port: int, detector: Detector) -> None:
    kept = Kept()
    line = Line([controlled(port)], detector, [kept], recipes=RecipeConfig("gear", numbers={"7": "gear"}))
    with running(line):
        for number in range(20):
            told = plc.inspect(f"SN{number}", ("", "7", "gear", "lathe")[number % 4])
            assert (told.part_id, told.valid, told.error) == (f"SN{number}", True, False)
            result = kept.wait_for(number + 1)[number]
            assert (told.verdict, result.record.part.id) == (result.verdict, told.part_id)
            assert told.reason == (result.reason or "")[:126]
            assert (told.verdict == "INVALID") == (number % 4 == 3)
        before = plc.bit(4)
        plc.wait_for(4, not before)  # the watchdog
    assert plc.block[100] == 0b10000000
    assert len(kept.results) == 20


def test_a_part_whose_frame_does_not_come_is_an_error(plc: Plc, port: int, detector: Detector) -> None:
    source = controlled(port, timeout_s=0.05)
    kept = Kept()
    source.camera.listener = lambda began_s, record: None  # the camera gives nothing that would be a trigger's
    with running(Line([source], detector, [kept])):
        plc.wait_for(0)
        plc.trigger("SN1")
        told = plc.result()
        assert (told.part_id, told.verdict, told.valid) != ("SN1", "OK", True)
        assert "no verdict within" in told.reason or "no frame within" in told.reason
        assert kept.wait_for(1)[0].verdict == "INVALID"


def test_a_controller_that_dies_and_returns(port: int, detector: Detector, caplog: pytest.LogCaptureFixture) -> None:
    plc, kept = Plc(start=20), Kept()
    line = Line([controlled(port, start=20)], detector, [kept])
    with running(line):
        until(lambda: line.status.snapshot().alarms, "an alarm")
        (alarm,) = line.status.snapshot().alarms
        assert (alarm.kind, "s7:127.0.0.1" in alarm.text) == ("controller", True)
        for life in range(3):
            with served(plc, port):
                if life:
                    told = plc.result()
                    assert (told.error, told.part_id, told.verdict) == (True, f"lost {life}", "INVALID")
                assert plc.inspect(f"SN{life}").valid
                until(lambda: not line.status.snapshot().alarms, "the end of the alarm")
            until(lambda: line.status.snapshot().alarms, "an alarm")
            plc.block[120] = 0  # as a plant does when the watchdog stands still
            plc.trigger(f"lost {life + 1}")  # nobody sees it
    assert [result.record.part.id for result in kept.results] == ["SN0", "SN1", "SN2"]


def test_strict_lines_do_not_start_without_their_controller(port: int, detector: Detector) -> None:
    source = controlled(port)
    with pytest.raises(SourceError, match="does not answer"):
        source.__enter__()
    assert not source.camera.is_open


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snap7.client", None)
    with pytest.raises(SourceError, match=r"pip install 'simplenet-edge\[s7\]'"):
        S7Controller(S7Address("127.0.0.1", 1)).open()


def test_the_address_of_a_camera_names_its_controller() -> None:
    source = open_source("test://?fps=30#trigger=s7:127.0.0.1/DB10&timeout=0.5")
    assert isinstance(source, Controlled)
    assert (source.controller.name, source.timeout_s, source.verdict_s) == ("s7:127.0.0.1:102/DB10", 0.5, 0.5)
