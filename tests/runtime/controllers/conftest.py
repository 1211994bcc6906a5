"""The OPC UA server of a line that is ready, and a client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simplenet_edge.runtime.controllers import OpcUaController
from tests.runtime.controllers.clients import PlcClient
from tests.runtime.controllers.lines import RunningLine
from tests.servers import free_port


@pytest.fixture(scope="module")
def controller() -> Iterator[OpcUaController]:
    controller = OpcUaController(port=free_port(), silence_s=0.5)
    controller.open()
    yield controller
    controller.close()


@pytest.fixture
def line(controller: OpcUaController) -> Iterator[RunningLine]:
    with RunningLine(controller) as line:
        yield line


@pytest.fixture
def plc(controller: OpcUaController, line: RunningLine) -> Iterator[PlcClient]:
    """Connected, the line ready."""
    client = PlcClient(controller.name)
    client.cause("VisionStateMachine/Reset")
    client.call("VisionStateMachine/SelectModeAutomatic")
    client.await_state("Ready")
    client.events.clear()
    yield client
    client.close()
