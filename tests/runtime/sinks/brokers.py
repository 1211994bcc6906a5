"""A real MQTT broker, mosquitto, that tests kill and start again."""

from __future__ import annotations

from pathlib import Path

from tests.servers import ServerProcess, free_port, listens, program


class Broker(ServerProcess):
    """Listens on `port` of the loopback address."""

    def __init__(self, folder: Path, options: str = "allow_anonymous true") -> None:
        self.port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nuser root\npersistence false\n{options}\n")
        super().__init__([program("mosquitto"), "-c", config])

    def answers(self) -> bool:
        return listens(self.port)
