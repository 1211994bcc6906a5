"""Verdicts to a controller (PLC) by Modbus/TCP. Addresses count from 0, as on the wire.

    register + 0     verdict: 0 INVALID, 1 OK, 2 NG; a controller that was sent nothing reads INVALID
    register + 1     the part that it belongs to: the frame's id modulo 65536
    register + 2, 3  score, float32, the more significant word first; 0.0 where there is none
    coil + 0         NG
    coil + 1         INVALID
    coil + 2         heartbeat: changes with each result; written last, together with the two other coils

The part is good only where coil 0 and coil 1 are off and the heartbeat has changed since the part before; a controller
that sees no change in time must take the part for INVALID. On opening and on closing INVALID is written, for no part.

Only the newest verdict is written, and none that is older than `deadline_ms` by then, counted from the arrival of its
frame: it is lost and counted, and the heartbeat stands still. How long the controller takes for the coils is known from
the registers. (One that stalls with the coils in hand may change them when it wakes: their part is in register + 1.)

On Linux a second line on this machine that would write to the same cells is refused.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import struct
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink, TooLate

if TYPE_CHECKING:
    from pymodbus.client import ModbusTcpClient

__all__ = ["ModbusAddress", "ModbusSink"]

_CODES = {"INVALID": 0, "OK": 1, "NG": 2}
_TIMEOUT_S = 1.0
_EXAMPLE = "modbus://host:502?unit=1&coil=0&register=0&deadline=500"


@dataclass(frozen=True)
class ModbusAddress:
    """Where the controller is and where the map begins."""

    host: str
    port: int = 502
    unit: int = 1
    coil: int = 0
    register: int = 0
    camera: str | None = None  # whose results are written; None: those of the only one
    deadline_ms: float = 500.0  # the oldest that a verdict may be when it is written

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
        if not 0 < self.deadline_ms < float("inf"):
            raise ConfigError(f"deadline must be positive milliseconds, not {self.deadline_ms}, as in {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> ModbusAddress:
        """`modbus://host[:port][?unit=1&coil=0&register=0&camera=name&deadline=500]`."""
        try:
            url = urlsplit(text)
            port = url.port
            query = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
            camera = query.pop("camera", None)
            deadline_ms = float(query.pop("deadline", cls.deadline_ms))
            numbers = {name: int(value) for name, value in query.items()}
        except ValueError as error:
            raise ConfigError(f"expected an address such as {_EXAMPLE} ({error})") from error
        if (
            url.scheme != "modbus"
            or url.path.strip("/")
            or url.fragment
            or "@" in url.netloc
            or not numbers.keys() <= {"unit", "coil", "register"}
        ):
            raise ConfigError(f"expected an address such as {_EXAMPLE}, also with camera=name; it has no user or path")
        return cls(url.hostname or "", 502 if port is None else port, camera=camera, deadline_ms=deadline_ms, **numbers)

    def __str__(self) -> str:
        """The address, short."""
        return f"modbus://{self.host}:{self.port}?unit={self.unit}&coil={self.coil}&register={self.register}"


class ModbusSink(Sink):
    """Writes each verdict to the map above. Raises SimpleNetEdgeError on opening where pymodbus is missing."""

    capacity = 1
    newest_only = True

    def __init__(self, address: ModbusAddress) -> None:
        self.name = str(address)
        self.address = address
        self._client: ModbusTcpClient | None = None
        self._heartbeat = False
        self._held: list[socket.socket] = []

    @property
    def exclusive(self) -> Collection[str]:
        """Each coil and register of the map."""
        address = self.address
        cells = [f"coil {address.coil + i}" for i in range(3)] + [f"register {address.register + i}" for i in range(4)]
        return [f"{cell} of unit {address.unit} at {address.host}:{address.port}" for cell in cells]

    def attach(self, cameras: Collection[str]) -> None:
        """Raises ConfigError where it isn't clear whose verdicts are written, or where there is no such camera."""
        named, names = self.address.camera, ", ".join(sorted(cameras))
        if named is None and len(cameras) > 1:
            raise ConfigError(
                f"{self.name}: the verdicts of several cameras ({names}) would overwrite each other; give each camera "
                "an address of its own, with camera=NAME and other coils and registers"
            )
        if named is not None and named not in cameras:
            raise ConfigError(f"{self.name}: no camera is called {named!r}; expected one of {names}")

    def wants(self, result: FrameResult) -> bool:
        """Those of its camera."""
        return self.address.camera in (None, result.record.camera)

    def open(self) -> None:
        """Connect, and write INVALID."""
        try:
            from pymodbus.client import ModbusTcpClient
        except ImportError as error:
            raise SimpleNetEdgeError(
                "writing to Modbus needs pymodbus; run: pip install 'simplenet-edge[modbus]'"
            ) from error
        self._hold_cells()
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)  # at each try; our caller says it once
        address = self.address
        timeout_s = min(_TIMEOUT_S, address.deadline_ms / 1000)
        self._client = ModbusTcpClient(address.host, port=address.port, timeout=timeout_s, retries=0)
        try:
            self._put("INVALID", 0, 0.0)
        except SinkError:
            self._drop()
            self._let_go_of_cells()
            raise

    def write(self, result: FrameResult) -> None:
        """Write one verdict. After a fault the controller knows by the heartbeat, which stands still."""
        score = 0.0 if result.detection is None else result.detection.score
        try:
            self._put(result.verdict, result.record.frame_id, score, result.record.monotonic_s)
        except TooLate:
            raise
        except SinkError:
            self._drop()
            raise

    def close(self) -> None:
        """Write INVALID where the controller still listens, and leave."""
        try:
            if self._client is not None and self._client.connected:
                self._put("INVALID", 0, 0.0)
        except SinkError:
            pass  # the heartbeat stands still
        finally:
            self._drop()
            self._let_go_of_cells()

    def _hold_cells(self) -> None:
        """Keep other lines on this machine off the cells, by names that the system frees at any end of the program."""
        if sys.platform != "linux":
            return
        for cell in self.exclusive:
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._held.append(name)
            try:
                name.bind(f"\0simplenet-edge modbus {hashlib.sha256(cell.encode()).hexdigest()}")
            except OSError as error:
                self._let_go_of_cells()
                raise SinkError(f"another line writes to {cell} already; give each line cells of its own") from error

    def _let_go_of_cells(self) -> None:
        while self._held:
            self._held.pop().close()

    def _drop(self) -> None:
        """Leave at once, so that a request that is under way is thrown away rather than carried out later."""
        client, self._client = self._client, None
        if client is None:
            return
        if isinstance(client.socket, socket.socket):
            with suppress(OSError):
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # type: ignore[no-untyped-call]

    def _put(self, verdict: str, frame_id: int, score: float, came_s: float | None = None) -> None:
        """The registers first: who sees the heartbeat change reads what belongs to it.

        `came_s` is when the frame came; None for no frame, which leaves the heartbeat as it is. Raises TooLate.
        """
        from pymodbus.exceptions import ModbusException

        client, address = self._client, self.address
        if client is None:
            raise SinkError("the controller is not connected; use the sink inside `with sink:`")
        registers = [_CODES[verdict], frame_id % 65536, *struct.unpack(">HH", struct.pack(">f", score))]
        heartbeat = self._heartbeat if came_s is None else not self._heartbeat
        coils = [verdict == "NG", verdict == "INVALID", heartbeat]
        try:
            if not client.connect():  # type: ignore[no-untyped-call]
                raise SinkError(
                    f"{address.host}:{address.port} does not answer; see that the controller can be reached"
                )
            self._require_in_time(frame_id, came_s)
            started_s = time.monotonic()
            _require(client.write_registers(address.register, registers, device_id=address.unit), address)
            self._require_in_time(frame_id, came_s, time.monotonic() - started_s)  # the coils will take as long
            if came_s is not None and self.is_overtaken():
                raise TooLate(f"a newer verdict has overtaken that on frame {frame_id}: the controller is too slow")
            self._heartbeat = heartbeat
            _require(client.write_coils(address.coil, coils, device_id=address.unit), address)
        except (OSError, ModbusException) as error:
            raise SinkError(f"the controller takes no verdict ({error}); see that it can be reached") from error

    def _require_in_time(self, frame_id: int, came_s: float | None, ahead_s: float = 0.0) -> None:
        """Raise TooLate where the verdict is, or will be in `ahead_s`, older than its deadline."""
        age_ms = 0.0 if came_s is None else (time.monotonic() - came_s + ahead_s) * 1000
        if age_ms > self.address.deadline_ms:
            raise TooLate(
                f"the verdict on frame {frame_id} is {age_ms:.0f} ms old before the controller has it, over its "
                f"deadline of {self.address.deadline_ms:g} ms and not written; see whether the line or the controller "
                "is too slow"
            )


def _require(answer: Any, address: ModbusAddress) -> None:
    if answer.isError():
        raise SinkError(f"the controller refuses ({answer}); check unit, coil and register of {address}")
