"""The OPC UA controller: opening, closing, addresses, and with a real line."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.errors import ConfigError, SourceError
from simplenet_edge.runtime.controllers import Answer, OpcUaController, Request, open_controller
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.recipes import RecipeConfig
from simplenet_edge.runtime.sources import Controlled, SyntheticCamera, SyntheticParts, open_source
from tests.runtime.belts import Kept
from tests.runtime.controllers.clients import PlcClient
from tests.runtime.controllers.lines import RunningLine
from tests.runtime.line.test_line import running
from tests.servers import free_port, listens
from tests.waiting import SOON_S, until


def test_closing_shows_no_verdict_frees_the_port_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    controller = OpcUaController(port=free_port())
    for _ in range(2):
        controller.open()
        with RunningLine(controller) as line:
            client = PlcClient(controller.name)
            client.await_state("Ready")  # by itself, after a start of the line
            job = client.start("unfinished")
            until(lambda line=line: line.side.parts)  # type: ignore[misc]
        controller.close()
        last = client.event("ResultReadyEventType", job)
        assert (last.ResultContent[0].Value, last.ResultState) == ("INVALID", 3)
        assert client.events[-1][1].ToState.Text == "Preoperational"
        client.close()
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", controller.port))
        assert set(threading.enumerate()) <= before
    controller.close()
    with pytest.raises(SourceError, match="is not open"):
        controller.exchange(Answer(), False)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        controller = OpcUaController(port=port)
        with pytest.raises(SourceError, match=rf"127\.0\.0\.1:{port} can't be listened on .*name another"):
            controller.open()
        controller.close()


def test_an_address_that_is_not_this_machine_s_is_named() -> None:
    with pytest.raises(SourceError, match="can't be listened on"):
        OpcUaController("192.0.2.1", 4840).open()


def test_without_the_library_the_command_that_installs_it_is_named() -> None:
    code = (
        "import sys; sys.modules['asyncua'] = None\n"
        "from simplenet_edge.runtime.controllers import open_controller\n"
        f"open_controller('opcua:{free_port()}').open()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SourceError: an OPC UA server needs asyncua; run: pip install 'simplenet-edge[opcua]'" in done.stderr


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("opcua:4840", ("127.0.0.1", 4840)),
        ("opcua:0.0.0.0:4841", ("0.0.0.0", 4841)),
        ("opcua:[::1]:4840", ("::1", 4840)),
    ],
)
def test_the_address_names_host_and_port(address: str, place: tuple[str, int]) -> None:
    controller = open_controller(address)
    assert isinstance(controller, OpcUaController)
    assert (controller.host, controller.port) == place


@pytest.mark.parametrize("address", ["opcua", "opcua:", "opcua:host", "opcua:0", "opcua:65536", "plc:4840", "4840", ""])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(SourceError, match=r"4840|8080"):
        open_controller(address)
    with pytest.raises(ConfigError, match="4840"):
        OpcUaController(port=0)


def test_the_address_of_a_camera_names_its_controller() -> None:
    source = open_source("test://?fps=30#trigger=opcua:4841&timeout=0.5")
    assert isinstance(source, Controlled)
    assert source.controller.name == "opc.tcp://127.0.0.1:4841/simplenet-edge"


def test_a_real_line_judges_the_parts_of_a_client(bundle: Bundle) -> None:
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=200)
    port, kept = free_port(), Kept()
    source = Controlled(camera, OpcUaController(port=port), SOON_S)
    with open_engine(bundle, "onnxruntime", threads=1) as engine:
        line = Line([source], Detector(engine), [kept], recipes=RecipeConfig("gear", numbers={"7": "gear"}))
        with running(line):
            until(lambda: listens(port), "the server")
            plc = PlcClient(source.controller.name)
            for number, recipe in enumerate(("", "7", "gear", "lathe")):
                plc.await_state("Ready")
                part, verdict, score, reason, _ = plc.result(plc.start(f"SN{number}", recipe))
                result = kept.wait_for(number + 1)[number]
                assert (part, verdict, reason) == (f"SN{number}", result.verdict, result.reason or "")
                assert result.record.part.id == part
                assert score == (None if result.detection is None else result.detection.score)
                assert (verdict == "INVALID") == (recipe == "lathe")
            plc.close()


def test_before_it_is_asked_it_asks_for_nothing(controller: OpcUaController) -> None:
    assert controller.exchange(Answer(), False) == Request()
