"""Controllers that ask for parts by a handshake and get the verdicts; `open_controller` reads the address of each."""

from __future__ import annotations

from simplenet_edge.errors import ConfigError, SourceError
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.controllers.handshake import Handshake
from simplenet_edge.runtime.controllers.opcua import OpcUaController
from simplenet_edge.runtime.controllers.s7 import S7Address, S7Controller
from simplenet_edge.runtime.http_server import parse_address

__all__ = [
    "Answer",
    "Controller",
    "Handshake",
    "OpcUaController",
    "Request",
    "S7Address",
    "S7Controller",
    "open_controller",
]


def open_controller(address: str) -> Controller:
    """The controller that `address` names, not open yet: `s7:HOST/DB10`, or `opcua:4840` or `opcua:HOST:4840` to serve.

    Raises SourceError for anything else.
    """
    scheme, _, place = address.partition(":")
    if scheme == "s7":
        return S7Controller(S7Address.parse(place))
    if scheme == "opcua":
        try:
            return OpcUaController(*parse_address(place))
        except ConfigError as error:
            raise SourceError(f"{address}: {error}") from None
    raise SourceError(f"{address}: expected stdin, http:PORT or a controller such as s7:192.168.0.1/DB10 or opcua:4840")
