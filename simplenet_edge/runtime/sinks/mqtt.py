"""Results to an MQTT broker, with quality of service 1: each is confirmed before it counts as delivered.

<topic>/<camera>   the result, JSON as in the JSON lines; <topic> alone where the camera has no name
<topic>/status     retained: `online`, or `offline` after an orderly end and, by the last will, after any other
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.sinks.network import NetworkSink
from simplenet_edge.runtime.sinks.spool import Spool

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["PASSWORD_VARIABLE", "MqttAddress", "MqttSink"]

PASSWORD_VARIABLE = "SIMPLENET_EDGE_MQTT_PASSWORD"
_TIMEOUT_S = 4.0  # to connect, and for a confirmation
_KEEPALIVE_S = 15
_EXAMPLE = "mqtt://host/topic or mqtts://user@host:8883/topic?cafile=ca.pem"


@dataclass(frozen=True)
class MqttAddress:
    """Where the broker is. `cafile` holds the certificates that are trusted; None: those of the system."""

    host: str
    topic: str
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: Path | None = None

    def __post_init__(self) -> None:
        if not self.host or not self.topic or re.search(r"[+#\0]|^/|/$", self.topic):
            raise ConfigError(f"expected a host and a topic without + or #, such as {_EXAMPLE}, not {self}")
        if self.cafile is not None and not self.tls:
            raise ConfigError("cafile is for mqtts://, not for mqtt://, which is not encrypted")
        if self.password is not None and self.username is None:
            raise ConfigError(f"an MQTT password needs a user, as in {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> MqttAddress:
        """`mqtt[s]://[user[:password]@]host[:port]/topic[?cafile=file]`, the password also from the environment."""
        try:
            url = urlsplit(text)
            port = url.port
            query = dict(parse_qsl(url.query, strict_parsing=bool(url.query)))
        except ValueError as error:
            raise ConfigError(
                f"expected an address such as {_EXAMPLE}; in a password, write : / @ # ? % as %3A %2F %40 %23 %3F %25"
            ) from error
        cafile = query.pop("cafile", None)
        if url.scheme not in ("mqtt", "mqtts") or query or url.fragment:
            raise ConfigError(f"expected an address such as {_EXAMPLE}; its only option is cafile")
        tls = url.scheme == "mqtts"
        username = unquote(url.username) if url.username else None
        password = unquote(url.password) if url.password else None
        if username and password is None:
            password = os.environ.get(PASSWORD_VARIABLE)
        return cls(
            host=url.hostname or "",
            topic=unquote(url.path).strip("/"),
            port=port or (8883 if tls else 1883),
            tls=tls,
            username=username,
            password=password,
            cafile=Path(cafile) if cafile else None,
        )

    def __str__(self) -> str:
        """The address without user and password."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}/{self.topic}"


class MqttSink(NetworkSink):
    """Publishes to a broker (MQTT 3.1.1). Raises SimpleNetEdgeError on opening where paho-mqtt is missing."""

    batch = 20

    def __init__(self, address: MqttAddress, spool: Spool | None = None) -> None:
        super().__init__(str(address), spool)
        self.address = address
        self._tls: ssl.SSLContext | None = None
        self._client: Client | None = None

    def _prepare(self) -> None:
        try:
            from paho.mqtt.enums import CallbackAPIVersion  # noqa: F401 - new in 2.0
        except ImportError as error:
            raise SimpleNetEdgeError(
                "sending to MQTT needs paho-mqtt 2.0 or newer; run: pip install 'simplenet-edge[mqtt]'"
            ) from error
        if self.address.tls:
            try:
                self._tls = ssl.create_default_context(cafile=self.address.cafile)
            except OSError as error:
                raise ConfigError(f"cafile {self.address.cafile} can't be used ({error.strerror or error})") from error

    def _deliver(self, lines: Sequence[str]) -> Iterator[None]:
        try:
            client = self._connected()
            sent = [client.publish(self._topic(line), line, qos=1) for line in lines]
            for message in sent:
                _await(client, message)
                yield
        except (OSError, ValueError, RuntimeError, SinkError) as error:
            # A new client next time: this one would send again, by itself, what the spool sends again.
            self._drop()
            raise SinkError(f"the broker takes no results ({error}); see that it runs and can be reached") from error

    def _topic(self, line: str) -> str:
        camera = re.sub(r"[+#/\s\0]+", "_", str(json.loads(line).get("camera") or ""))
        if camera == "status":
            camera = "status_"
        return f"{self.address.topic}/{camera}" if camera else self.address.topic

    def _connected(self) -> Client:
        if self._client is not None and self._client.is_connected():
            return self._client
        self._drop()
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = self._client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect_timeout = _TIMEOUT_S
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self.address.username is not None:
            client.username_pw_set(self.address.username, self.address.password)
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        answered = threading.Event()
        answers: list[Any] = []

        def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
            answers.append(reason)
            answered.set()

        client.on_connect = on_connect
        client.connect(self.address.host, self.address.port, keepalive=_KEEPALIVE_S)
        client.loop_start()
        if not answered.wait(_TIMEOUT_S):
            raise SinkError(f"no answer for {_TIMEOUT_S:.0f} s")
        if answers[0].is_failure:
            raise SinkError(f"it refuses: {answers[0]}")
        _await(client, client.publish(self._status_topic, "online", qos=1, retain=True))
        return client

    @property
    def _status_topic(self) -> str:
        return f"{self.address.topic}/status"

    def _disconnect(self) -> None:
        client = self._client
        if client is not None and client.is_connected():
            with suppress(ValueError, RuntimeError, SinkError):
                _await(client, client.publish(self._status_topic, "offline", qos=1, retain=True))
        self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()


def _await(client: Client, message: Any) -> None:
    """Until the broker has confirmed it."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not message.is_published():
        if not client.is_connected():
            raise SinkError("the connection broke")
        if time.monotonic() > deadline:
            raise SinkError(f"no confirmation for {_TIMEOUT_S:.0f} s")
        message.wait_for_publish(0.1)
