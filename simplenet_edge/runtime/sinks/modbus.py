"""Verdicts to a controller (PLC) by Modbus/TCP. Addresses count from 0, as on the wire.

    register + 0     verdict: 0 INVALID, 1 OK, 2 NG; a controller that was told nothing reads INVALID
    register + 1     the frame's id modulo 65536
    register + 2, 3  score, float32, the more significant word first; 0.0 where there is none
    coil + 0         NG
    coil + 1         INVALID
    coil + 2         heartbeat: changes with each result; written last, together with the two other coils

The part is good only where coil 0 and coil 1 are off and the heartbeat has changed since the part before; a controller
that sees no change in time must take the part for INVALID. On opening and on closing INVALID is written, for no part.
Nothing is written later than now: what couldn't be is lost, and counted.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient

__all__ = ["ModbusAddress", "ModbusSink"]

_CODES = {"INVALID": 0, "OK": 1, "NG": 2}
_TIMEOUT_S = 1.0
_EXAMPLE = "modbus://host:502?unit=1&coil=0&register=0"


@dataclass(frozen=True)
class ModbusAddress:
    """Where the controller is and where the map begins. `camera`: only its results are written; None: all."""

    host: str
    port: int = 502
    unit: int = 1
    coil: int = 0
    register: int = 0
    camera: str | None = None

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError(f"expected an address such as {_EXAMPLE}")
        for name, value, last in (
            ("unit", self.unit, 255),
            ("coil", self.coil, 65533),
            ("register", self.register, 65532),
        ):
            if not 0 <= value <= last:
                raise ConfigError(f"{name} must be from 0 to {last}, not {value}, as in {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> ModbusAddress:
        """`modbus://host[:port][?unit=1&coil=0&register=0&camera=name]`."""
        try:
            url = urlsplit(text)
            port = url.port
            query = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
            camera = query.pop("camera", None)
            numbers = {name: int(value) for name, value in query.items()}
        except ValueError as error:
            raise ConfigError(f"expected an address such as {_EXAMPLE}, not {text}: {error}") from error
        if (
            url.scheme != "modbus"
            or url.path.strip("/")
            or url.fragment
            or not numbers.keys() <= {"unit", "coil", "register"}
        ):
            raise ConfigError(f"expected an address such as {_EXAMPLE}, also with camera=name, not {text}")
        return cls(url.hostname or "", 502 if port is None else port, camera=camera, **numbers)

    def __str__(self) -> str:
        """The address, short."""
        return f"modbus://{self.host}:{self.port}?unit={self.unit}&coil={self.coil}&register={self.register}"


class ModbusSink(Sink):
    """Writes each verdict to the map above. Raises SimpleNetEdgeError on opening where pymodbus is missing."""

    capacity = 4  # the controller acts on the newest; what waits behind a slow one would come for another part
    keeps_trying = False

    def __init__(self, address: ModbusAddress) -> None:
        self.name = str(address)
        self.address = address
        self._client: ModbusTcpClient | None = None
        self._heartbeat = False

    def open(self) -> None:
        """Connect, and write INVALID."""
        try:
            from pymodbus.client import ModbusTcpClient
        except ImportError as error:
            raise SimpleNetEdgeError(
                "writing to Modbus needs pymodbus; run: pip install 'simplenet-edge[modbus]'"
            ) from error
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # at each try; our caller says it once
        address = self.address
        self._client = ModbusTcpClient(address.host, port=address.port, timeout=_TIMEOUT_S, retries=0)
        try:
            self._put("INVALID", 0, 0.0)
        except SinkError:
            self.close()
            raise

    def write(self, result: FrameResult) -> None:
        """Write one verdict; on a fault INVALID, where that is still possible."""
        if self.address.camera is not None and result.record.camera != self.address.camera:
            return
        self._heartbeat = not self._heartbeat
        score = 0.0 if result.detection is None else result.detection.score
        try:
            self._put(result.verdict, result.record.frame_id, score)
        except SinkError:
            self.close()
            raise

    def close(self) -> None:
        """Write INVALID where the controller still listens, and leave."""
        client = self._client
        if client is None:
            return
        try:
            if client.connected:
                self._put("INVALID", 0, 0.0)
        except SinkError:
            pass  # the heartbeat stands still
        finally:
            self._client = None
            client.close()  # type: ignore[no-untyped-call]

    def _put(self, verdict: str, frame_id: int, score: float) -> None:
        """The registers first: who sees the heartbeat change reads what belongs to it."""
        from pymodbus.exceptions import ModbusException

        client, address = self._client, self.address
        if client is None:
            raise SinkError("the controller is not connected; use the sink inside `with sink:`")
        registers = [_CODES[verdict], frame_id % 65536, *struct.unpack(">HH", struct.pack(">f", score))]
        coils = [verdict == "NG", verdict == "INVALID", self._heartbeat]
        try:
            if not client.connect():  # type: ignore[no-untyped-call]
                raise SinkError(
                    f"{address.host}:{address.port} does not answer; see that the controller can be reached"
                )
            _require(client.write_registers(address.register, registers, device_id=address.unit), address)
            _require(client.write_coils(address.coil, coils, device_id=address.unit), address)
        except (OSError, ModbusException) as error:
            raise SinkError(f"the controller takes no verdict ({error}); see that it can be reached") from error


def _require(answer: Any, address: ModbusAddress) -> None:
    if answer.isError():
        raise SinkError(f"the controller refuses ({answer}); check unit, coil and register of {address}")
