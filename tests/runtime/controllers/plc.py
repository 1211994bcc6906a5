"""A Siemens S7 controller of our own: python-snap7's server with one data block, and the program that a plant runs."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snap7.server import Server
from snap7.type import SrvArea

from tests.waiting import SOON_S

DB = 10


@dataclass(frozen=True)
class Told:
    """What the line told the controller of a part."""

    part_id: str
    valid: bool
    error: bool
    verdict: str
    score: float
    reason: str


class Plc:
    """Its memory is what the server serves: a program of the plant reads and sets signals without any network."""

    def __init__(self, start: int = 0) -> None:
        self.block = bytearray(start + 298)
        self.start = start

    def bit(self, number: int) -> bool:
        return bool(self.block[self.start + 100] >> number & 1)

    def text(self, at: int) -> str:
        length = self.block[self.start + at + 1]
        return self.block[self.start + at + 2 : self.start + at + 2 + length].decode("latin-1")

    def put_text(self, at: int, text: str, most: int) -> None:
        data = text.encode("latin-1")
        assert len(data) <= most
        self.block[self.start + at : self.start + at + 2 + len(data)] = bytes([most, len(data)]) + data

    def put_bits(self, trigger: bool, acknowledge: bool) -> None:
        self.block[self.start] = trigger | acknowledge << 1

    def wait_for(self, number: int, value: bool = True) -> None:
        end_s = time.monotonic() + SOON_S
        while self.bit(number) != value:
            assert time.monotonic() < end_s, f"bit {number} has not become {value}; it has {self.told()}"
            time.sleep(0.0005)

    def told(self) -> Told:
        verdict = next((name for number, name in ((5, "OK"), (6, "NG"), (7, "INVALID")) if self.bit(number)), "none")
        (score,) = struct.unpack(">f", self.block[self.start + 102 : self.start + 106])
        return Told(self.text(106), self.bit(2), self.bit(3), verdict, score, self.text(170))

    def trigger(self, part_id: str, recipe: str = "") -> None:
        self.put_text(2, part_id, 62)
        self.put_text(66, recipe, 30)
        self.put_bits(trigger=True, acknowledge=False)

    def result(self) -> Told:
        """Wait for it, and acknowledge it."""
        end_s = time.monotonic() + SOON_S
        while not (self.bit(2) or self.bit(3)):
            assert time.monotonic() < end_s, "neither valid nor error has come"
            time.sleep(0.0005)
        told = self.told()
        self.put_bits(trigger=False, acknowledge=True)
        for number in (2, 3):
            self.wait_for(number, False)
        self.put_bits(trigger=False, acknowledge=False)
        return told

    def inspect(self, part_id: str, recipe: str = "") -> Told:
        """The whole handshake of one part."""
        self.wait_for(0)
        self.trigger(part_id, recipe)
        return self.result()


@contextmanager
def served(plc: Plc, port: int) -> Iterator[None]:
    """The controller on the network."""
    server = Server()
    server.register_area(SrvArea.DB, DB, plc.block)
    server.start(port)
    try:
        yield
    finally:
        server.stop()
        server.destroy()
