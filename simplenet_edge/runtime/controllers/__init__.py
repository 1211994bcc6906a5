"""Controllers that ask for parts by a handshake and get the verdicts; `open_controller` reads the address of each."""

from __future__ import annotations

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.controllers.handshake import Handshake
from simplenet_edge.runtime.controllers.s7 import S7Address, S7Controller

__all__ = ["Answer", "Controller", "Handshake", "Request", "S7Address", "S7Controller", "open_controller"]


def open_controller(address: str) -> Controller:
    """The controller that `address` names, `s7:HOST/DB10`; not open yet. Raises SourceError for anything else."""
    scheme, _, place = address.partition(":")
    if scheme == "s7":
        return S7Controller(S7Address.parse(place))
    raise SourceError(f"{address}: expected stdin, http:PORT or a controller such as s7:192.168.0.1/DB10")
