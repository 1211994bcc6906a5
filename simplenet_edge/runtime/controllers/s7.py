"""A Siemens S7 controller: a data block that it and the line share, read and written over Ethernet (S7 communication).

Offsets in bytes from the address's `start`; a STRING has its two bytes of length in front, as in the controller.

    controller sets   0.0  trigger       0.1  acknowledge
                      2    part_id STRING[62]
                      66   recipe STRING[30]
    line sets         100.0  ready       100.1  busy      100.2  valid      100.3  error      100.4  watchdog
                      100.5  OK          100.6  NG        100.7  INVALID
                      102  score REAL, 0.0 where there is none
                      106  part_id STRING[62]
                      170  reason STRING[126]

The bits of byte 100 are written last where a verdict begins to count and first where it ends, so that whoever sees
`valid` or `error` reads what belongs to it. One of OK, NG and INVALID is set, and OK only together with `valid`.

The block has to be without optimised access, and the controller has to permit PUT/GET. S7-1200 and 1500: rack 0, slot
1.
"""

from __future__ import annotations

import logging
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request

if TYPE_CHECKING:
    from snap7.client import Client

__all__ = ["S7Address", "S7Controller"]

_EXAMPLE = "s7:192.168.0.1/DB10 or s7:192.168.0.1:102/DB10,start=0,rack=0,slot=1"
_REQUEST_BYTES = 98
_FLAGS_AT, _PAYLOAD_AT, _END = 100, 102, 298
_KEPT, _TELLS, _INVALID = 0b00010011, 0b00001100, 0b10000000  # ready, busy, watchdog; valid, error; INVALID
_MOST_DB, _MOST_START = 65535, 65535 - _END


@dataclass(frozen=True)
class S7Address:
    """Where the data block is. Raises SourceError."""

    host: str
    db: int
    port: int = 102
    start: int = 0  # byte of the block where the signals begin
    rack: int = 0
    slot: int = 1

    def __post_init__(self) -> None:
        for name, value, first, last in (
            ("DB", self.db, 1, _MOST_DB),
            ("port", self.port, 1, 65535),
            ("start", self.start, 0, _MOST_START),
            ("rack", self.rack, 0, 7),
            ("slot", self.slot, 0, 31),
        ):
            if not first <= value <= last:
                raise SourceError(f"{name} must be from {first} to {last}, not {value}, as in {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> S7Address:
        """`HOST[:PORT]/DBn[,start=0][,rack=0][,slot=1]`."""
        found = re.fullmatch(
            r"(?P<host>[^/:,\s]+)(:(?P<port>[0-9]{1,5}))?/DB(?P<db>[0-9]{1,5})(?P<more>(,(start|rack|slot)=[0-9]{1,5})*)",
            text,
            re.IGNORECASE,
        )
        more = [pair.split("=") for pair in found["more"].lower().split(",")[1:]] if found else []
        if found is None or len({name for name, _ in more}) < len(more):
            raise SourceError(f"s7:{text}: expected an address such as {_EXAMPLE}")
        numbers = {name: int(value) for name, value in more}
        return cls(found["host"], int(found["db"]), int(found["port"] or cls.port), **numbers)

    def __str__(self) -> str:
        """The address, short."""
        return f"s7:{self.host}:{self.port}/DB{self.db}"


class S7Controller(Controller):
    """The signals above. What a part id has beyond Latin-1 comes as what Latin-1 makes of its bytes."""

    def __init__(self, address: S7Address, timeout_s: float = 1.0) -> None:
        self.name = str(address)
        self.address = address
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._flags = 0  # as the controller has them
        self._payload = b""

    def open(self) -> None:
        """Connect, and set no signal."""
        try:
            from snap7.client import Client
            from snap7.type import Parameter
        except ImportError as error:
            raise SourceError("a Siemens S7 needs python-snap7; run: pip install 'simplenet-edge[s7]'") from error
        logging.getLogger("snap7").setLevel(logging.CRITICAL)  # at each try; our caller says it once
        address = self.address
        self._client = client = Client()
        milliseconds = round(self._timeout_s * 1000)
        try:
            for parameter in (Parameter.PingTimeout, Parameter.SendTimeout, Parameter.RecvTimeout):
                client.set_param(parameter, milliseconds)
            client.connect(address.host, address.rack, address.slot, address.port)
            self._write_flags(_INVALID)  # whatever an earlier run left there
            self._payload = b""
            self._set(Answer(), watchdog=False)
        except Exception as error:
            self._drop()
            raise self._fault(error) from error

    def exchange(self, answer: Answer, watchdog: bool) -> Request:
        """One reading, and one to three writings where something changes. Raises SourceError."""
        client, address = self._client, self.address
        if client is None:
            raise SourceError(f"{self.name} is not open")
        try:
            self._set(answer, watchdog)
            data = bytes(client.db_read(address.db, address.start, _REQUEST_BYTES))
        except Exception as error:  # python-snap7 raises RuntimeError, OSError and errors of its own
            raise self._fault(error) from error
        return Request(bool(data[0] & 1), bool(data[0] & 2), _text(data[2:66]), _text(data[66:98]))

    def close(self) -> None:
        """Take the signals away where the controller still listens, and leave."""
        try:
            if self._client is not None:
                self._set(Answer(), watchdog=False)
        except Exception as error:  # its watchdog stands still
            logging.getLogger(__name__).info("%s did not take the last signals: %s", self.name, error)
        finally:
            self._drop()

    def _set(self, answer: Answer, watchdog: bool) -> None:
        payload = struct.pack(">f", answer.score or 0.0) + _string(answer.part_id, 62) + _string(answer.reason, 126)
        if payload != self._payload:
            if self._flags & _TELLS:
                self._write_flags(self._flags & _KEPT | _INVALID)
            self._write(_PAYLOAD_AT, payload)
            self._payload = payload
        if (flags := _flags(answer, watchdog)) != self._flags:
            self._write_flags(flags)

    def _write_flags(self, flags: int) -> None:
        self._write(_FLAGS_AT, bytes([flags]))
        self._flags = flags

    def _write(self, at: int, data: bytes) -> None:
        assert self._client is not None
        self._client.db_write(self.address.db, self.address.start + at, bytearray(data))

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()

    def _fault(self, error: Exception) -> SourceError:
        return SourceError(
            f"{self.name} does not answer ({error}); see that the controller can be reached, permits PUT/GET, and has "
            f"a block DB{self.address.db} of at least {self.address.start + _END} bytes without optimised access"
        )


def _flags(answer: Answer, watchdog: bool) -> int:
    bits = (
        answer.ready,
        answer.busy,
        answer.valid,
        answer.error,
        watchdog,
        answer.valid and answer.verdict == "OK",
        answer.valid and answer.verdict == "NG",
        not answer.valid or answer.verdict == "INVALID",
    )
    return sum(bit << place for place, bit in enumerate(bits))


def _string(text: str, most: int) -> bytes:
    """A STRING[most]: its length, how long it is, and the characters."""
    data = text.encode("latin-1", "replace")[:most]
    return bytes([most, len(data)]) + data.ljust(most, b"\0")


def _text(data: bytes) -> str:
    return data[2:][: data[1]].decode("latin-1")
