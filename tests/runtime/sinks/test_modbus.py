from __future__ import annotations

import asyncio
import dataclasses
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusTcpServer

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks import ModbusAddress, ModbusSink, open_sink
from simplenet_edge.runtime.sinks.base import TooLate
from simplenet_edge.runtime.snapshot import SinkSnapshot
from tests.runtime.sinks.results import result, worker
from tests.servers import free_port
from tests.waiting import until

UNIT, COIL, REGISTER = 7, 16, 100


class Controller:
    """A Modbus server on a thread of its own, with coils and registers up to 200 for one unit."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.delay_s = 0.0  # before each answer
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._server: ModbusTcpServer | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(60)
        self._client = ModbusTcpClient("127.0.0.1", port=port)
        assert self._client.connect()  # type: ignore[no-untyped-call]

    def seen(self) -> tuple[list[int], float, list[bool]]:
        """Verdict and frame, score, and the coils NG, INVALID, heartbeat."""
        registers = self._client.read_holding_registers(REGISTER, count=4, device_id=UNIT).registers
        coils = self._client.read_coils(COIL, count=3, device_id=UNIT).bits[:3]
        (score,) = struct.unpack(">f", struct.pack(">HH", *registers[2:]))
        return list(registers[:2]), score, list(coils)

    def stop(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]
        assert self._server is not None
        shutdown = self._server.shutdown()  # type: ignore[no-untyped-call]
        asyncio.run_coroutine_threadsafe(shutdown, self._loop).result(60)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        coils, registers = (
            ModbusSequentialDataBlock(1, values)  # type: ignore[no-untyped-call]
            for values in ([False] * 200, [0] * 200)
        )
        device = ModbusDeviceContext(co=coils, hr=registers)

        async def serve() -> None:
            context = ModbusServerContext(devices={UNIT: device}, single=False)
            self._server = ModbusTcpServer(context, address=("127.0.0.1", self.port), trace_packet=self._slow_down)
            await self._server.serve_forever(background=True)
            self._ready.set()
            await self._server.serving

        self._loop.run_until_complete(serve())

    def _slow_down(self, sending: bool, data: bytes) -> bytes:
        if sending:
            time.sleep(self.delay_s)
        return data


@pytest.fixture
def controller() -> Iterator[Controller]:
    controller = Controller(free_port())
    yield controller
    controller.stop()


def sink_to(controller: Controller, camera: str | None = None, deadline_ms: float = 60_000) -> ModbusSink:
    return ModbusSink(ModbusAddress("127.0.0.1", controller.port, UNIT, COIL, REGISTER, camera, deadline_ms))


def test_the_map(controller: Controller) -> None:
    assert controller.seen() == ([0, 0], 0.0, [False, False, False])  # told nothing, it reads INVALID
    sink = sink_to(controller)
    sink.open()
    assert controller.seen() == ([0, 0], 0.0, [False, True, False])
    for given, seen in [
        (result(1), ([1, 1], 1.0, [False, False, True])),
        (result(2, "NG"), ([2, 2], 102.0, [True, False, False])),
        (result(3), ([1, 3], 3.0, [False, False, True])),
        (result(4, "INVALID"), ([0, 4], 0.0, [False, True, False])),
        (result(65536 + 5), ([1, 5], 65541.0, [False, False, True])),
    ]:
        sink.write(given)
        assert controller.seen() == seen
    sink.close()
    assert controller.seen() == ([0, 0], 0.0, [False, True, True])  # INVALID, and no heartbeat
    sink.close()


def test_only_one_camera_where_asked(controller: Controller) -> None:
    with worker(sink_to(controller, camera="right"), wait=True) as line:
        line.submit(result(1, camera="right"))
        line.submit(result(2, "NG", camera="left"))
        until(lambda: line.snapshot().written == 1)
        assert controller.seen() == ([1, 1], 1.0, [False, False, True])


def test_cameras_never_share_what_they_write() -> None:
    for address, names, what in [
        ("plc", ["left", "right"], "the verdicts of several cameras"),
        ("plc?camera=middle", ["left", "right"], "no camera is called 'middle'"),
        ("plc?camera=middle", ["left"], "expected one of left"),
    ]:
        with pytest.raises(ConfigError, match=what):
            ModbusSink(ModbusAddress.parse(f"modbus://{address}")).attach(names)
    ModbusSink(ModbusAddress.parse("modbus://plc")).attach(["left"])
    left, right, far = (
        set(ModbusSink(ModbusAddress.parse(f"modbus://plc?{place}")).exclusive)
        for place in ("camera=left", "camera=right&coil=2&register=4", "camera=right&coil=3&register=4")
    )
    assert left & right == {"coil 2 of unit 1 at plc:502"}
    assert not left & far


def aged(number: int, age_s: float, verdict: str = "OK") -> FrameResult:
    """A result whose frame came so long ago."""
    given = result(number, verdict)
    return replace(given, record=replace(given.record, monotonic_s=time.monotonic() - age_s))


def test_a_verdict_past_its_deadline_is_not_written(controller: Controller) -> None:
    with worker(sink_to(controller, deadline_ms=10_000), wait=False) as line:
        line.submit(result(1))
        until(lambda: controller.seen() == ([1, 1], 1.0, [False, False, True]))
        line.submit(aged(2, 11))
        until(lambda: line.snapshot().lost == 1)
        assert "frame 2 is 110" in (line.snapshot().error or "")
        assert controller.seen() == ([1, 1], 1.0, [False, False, True])  # the heartbeat stands still
        line.submit(result(3, "NG"))
        until(lambda: controller.seen() == ([2, 3], 103.0, [True, False, False]))
        until(lambda: line.snapshot() == SinkSnapshot(2, 1, 0, None))


def test_a_verdict_that_grows_too_old_under_way_never_moves_the_heartbeat(controller: Controller) -> None:
    sink = sink_to(controller, deadline_ms=800)
    with sink:
        controller.delay_s = 0.5
        with pytest.raises(TooLate, match="frame 1 is"):
            sink.write(aged(1, 0.4))  # the registers are answered after 0.9 s
        controller.delay_s = 0.0
        assert controller.seen() == ([1, 1], 1.0, [False, True, False])
        sink.write(aged(2, 0.0))
        assert controller.seen() == ([1, 2], 2.0, [False, False, True])


def test_a_verdict_that_would_reach_the_coils_too_late_never_moves_the_heartbeat(controller: Controller) -> None:
    """The controller takes as long for the coils as it did for the registers, and acts at its end."""
    with sink_to(controller, deadline_ms=900) as sink:
        controller.delay_s = 0.6
        with pytest.raises(TooLate, match="frame 1 is"):
            sink.write(aged(1, 0.0))
        controller.delay_s = 0.0
        assert controller.seen()[2] == [False, True, False]


@pytest.mark.skipif(sys.platform != "linux", reason="names that the system frees are Linux's")
def test_a_second_line_on_the_same_cells_is_refused_until_the_first_ends(controller: Controller) -> None:
    first, second = sink_to(controller), sink_to(controller)
    overlapping = ModbusSink(replace(first.address, coil=COIL + 2, register=REGISTER + 4))
    beside = ModbusSink(replace(first.address, coil=COIL + 3, register=REGISTER + 4))
    with first, beside:
        for sink in (second, overlapping):
            with pytest.raises(SinkError, match="another line writes to"):
                sink.open()
        first.write(result(1, "NG"))
    with second:
        second.write(result(2))
    away = ModbusSink(replace(first.address, port=free_port()))
    for _ in range(2):  # one that could not connect holds nothing
        with pytest.raises(SinkError, match="does not answer"):
            away.open()


def test_a_slow_controller_gets_the_newest_verdict_and_no_other(controller: Controller) -> None:
    with worker(sink_to(controller), wait=False) as line:
        controller.delay_s = 0.3
        for number in range(1, 9):
            line.submit(result(number))
        until(lambda: line.snapshot().written + line.snapshot().lost == 8)
        controller.delay_s = 0.0
        assert controller.seen() == ([1, 8], 8.0, [False, False, True])  # the heartbeat has moved once
        assert line.snapshot().written == 1


def test_the_address_names_it_all(controller: Controller) -> None:
    address = f"modbus://127.0.0.1:{controller.port}?unit={UNIT}&coil={COIL}&register={REGISTER}&camera=left"
    with open_sink(address) as sink:
        sink.write(result(2, "NG"))
        assert controller.seen() == ([2, 2], 102.0, [True, False, True])


@pytest.mark.parametrize("options", [{"coil": 300}, {"register": 300}, {"unit": 9}])
def test_a_map_that_the_controller_lacks_is_an_error_at_once(controller: Controller, options: dict[str, Any]) -> None:
    address = dataclasses.replace(ModbusAddress("127.0.0.1", controller.port, UNIT, COIL, REGISTER), **options)
    with pytest.raises(SinkError, match=r"the controller (refuses|takes no verdict)"):
        ModbusSink(address).open()


def test_an_outage_loses_what_came_meanwhile_and_starts_again_with_invalid() -> None:
    port = free_port()
    controller = Controller(port)
    with worker(sink_to(controller), wait=False) as line:
        line.submit(result(1))
        until(lambda: controller.seen()[0] == [1, 1])
        controller.stop()
        line.submit(result(2))
        until(lambda: (line.snapshot().lost, line.snapshot().waiting) == (1, 0))
        assert line.snapshot().error is not None
        controller = Controller(port)
        until(lambda: controller.seen()[2][1], "INVALID")  # not the verdict of part 2, nor of part 1

        def is_written() -> bool:
            line.submit(result(3))
            return controller.seen()[0] == [1, 3]

        until(is_written)
        until(lambda: line.snapshot().error is None)  # the controller knows before the worker does
    assert controller.seen()[0] == [0, 0]
    controller.stop()


def test_a_controller_that_is_not_there() -> None:
    with pytest.raises(SinkError, match="does not answer"):
        ModbusSink(ModbusAddress("127.0.0.1", free_port())).open()
    with pytest.raises(SinkError, match="not connected"):
        ModbusSink(ModbusAddress("127.0.0.1")).write(result(1))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("modbus://plc", ModbusAddress("plc")),
        ("modbus://[::1]:5020/?coil=8", ModbusAddress("::1", 5020, coil=8)),
        ("modbus://10.0.0.9?unit=2&register=40&camera=a%20b", ModbusAddress("10.0.0.9", 502, 2, 0, 40, "a b")),
    ],
)
def test_addresses(text: str, address: ModbusAddress) -> None:
    assert ModbusAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "modbus://",
        "modbus://plc:x",
        "modbus://plc/path",
        "modbus://plc?unit=300",
        "modbus://plc?coil=-1",
        "modbus://plc?coil=65534",
        "modbus://plc?register=65533",
        "modbus://plc?register=a",
        "modbus://plc?slave=1",
        "modbus://plc?unit",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"modbus://host:502\?unit=1"):
        ModbusAddress.parse(text)


def test_without_pymodbus_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymodbus.client", None)
    with pytest.raises(SimpleNetEdgeError, match=r"pip install 'simplenet-edge\[modbus\]'"):
        ModbusSink(ModbusAddress("127.0.0.1", free_port())).open()
