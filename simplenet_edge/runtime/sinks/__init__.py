"""Where results go: files, images, brokers, hooks, controllers; `open_sink` reads the address of each."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.base import Sink
from simplenet_edge.runtime.sinks.images import OverlaySink
from simplenet_edge.runtime.sinks.jsonl import JsonlSink
from simplenet_edge.runtime.sinks.modbus import ModbusAddress, ModbusSink
from simplenet_edge.runtime.sinks.mqtt import MqttAddress, MqttSink
from simplenet_edge.runtime.sinks.spool import Spool
from simplenet_edge.runtime.sinks.store import PictureStore
from simplenet_edge.runtime.sinks.webhook import WebhookSink
from simplenet_edge.runtime.sinks.worker import SinkWorker

__all__ = [
    "FrameResult",
    "JsonlSink",
    "ModbusAddress",
    "ModbusSink",
    "MqttAddress",
    "MqttSink",
    "OverlaySink",
    "PictureStore",
    "Sink",
    "SinkWorker",
    "Spool",
    "WebhookSink",
    "open_sink",
]


def open_sink(
    address: str,
    *,
    spool_folder: Path | None = None,
    spool_bytes: int = 64 * 1024 * 1024,
    webhook_only: Literal["ng", "all"] = "all",
    rotate_bytes: int | None = None,
    keep: int = 5,
    fsync_s: float | None = None,
) -> Sink:
    """The sink that `address` names, to be entered with `with`; each option is for the kinds that know it.

    A path ending in `.jsonl` (`rotate_bytes`, `keep`, `fsync_s`), `mqtt[s]://user@host/topic?cafile=ca.pem`,
    `http[s]://host/path` (`webhook_only`), `modbus://host:502?unit=1&coil=0&register=0&camera=name`. What goes to a
    broker or a web server waits for it in a folder of its own in `spool_folder`, up to `spool_bytes`; None for no
    spool. Raises ConfigError for anything else.
    """
    scheme, separator, _ = address.partition("://")
    if not separator and address.endswith(".jsonl"):
        return JsonlSink(Path(address), rotate_bytes=rotate_bytes, keep=keep, fsync_s=fsync_s)
    if scheme in ("mqtt", "mqtts") and separator:
        broker = MqttAddress.parse(address)
        return MqttSink(broker, _spool(spool_folder, str(broker), spool_bytes))
    if scheme in ("http", "https") and separator:
        name = WebhookSink(address).name
        return WebhookSink(address, _spool(spool_folder, name, spool_bytes), only=webhook_only)
    if scheme == "modbus" and separator:
        return ModbusSink(ModbusAddress.parse(address))
    scheme, colon, _ = address.partition(":")  # what follows may hold a password
    raise ConfigError(
        f"{scheme}{colon and ':…'}: expected a path ending in .jsonl, or an address that begins with "
        "mqtt://, mqtts://, http://, https:// or modbus://"
    )


def _spool(folder: Path | None, name: str, most_bytes: int) -> Spool | None:
    """In a folder that is the same for the same address whenever the line starts, whatever its password."""
    if folder is None:
        return None
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:60]
    return Spool(folder / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}", most_bytes)
