from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.sinks import JsonlSink, ModbusSink, MqttSink, Sink, WebhookSink, open_sink
from tests.runtime.sinks.results import result
from tests.servers import free_port


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("a/b.jsonl", JsonlSink, "a/b.jsonl"),
        ("mqtt://u:secret@host/line", MqttSink, "mqtt://host:1883/line"),
        ("mqtts://host/line", MqttSink, "mqtts://host:8883/line"),
        ("http://u:secret@host/hook?key=secret", WebhookSink, "http://host/#c38bfc"),
        ("https://host:8443", WebhookSink, "https://host:8443"),
        ("modbus://plc", ModbusSink, "modbus://plc:502?unit=1&coil=0&register=0"),
    ],
)
def test_each_kind_by_its_address(address: str, kind: type[Sink], name: str) -> None:
    sink = open_sink(address)
    assert type(sink) is kind
    assert sink.name == name


@pytest.mark.parametrize(
    "address",
    [
        "",
        "line.json",
        "ftp://u:secret@host/line.jsonl",
        "MQTT//host",
        "jsonl",
        "mqtt:/u:secret@h/t",
        "modbus:u:secret@h",
    ],
)
def test_what_is_none_names_those_that_are(address: str) -> None:
    with pytest.raises(ConfigError, match=r"\.jsonl.*mqtt://, mqtts://, http://, https:// or modbus://") as caught:
        open_sink(address)
    assert "secret" not in str(caught.value)


def test_each_address_has_its_own_spool_and_keeps_it(tmp_path: Path) -> None:
    port = free_port()
    for password in ("one", "two"):  # changed since
        for path in ("a", "b"):
            with open_sink(f"http://u:{password}@127.0.0.1:{port}/{path}", spool_folder=tmp_path) as sink:
                sink.write(result(1))
    folders = sorted(tmp_path.iterdir())
    assert [re.sub("_[0-9a-f]{6}-[0-9a-f]{8}$", "", folder.name) for folder in folders] == [
        f"http_127.0.0.1_{port}"
    ] * 2
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    assert [len((folder / "00000001.jsonl").read_text().splitlines()) for folder in folders] == [2, 2]


def test_options_reach_the_sink(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with open_sink(str(path), rotate_bytes=1, keep=1, fsync_s=0) as sink:
        for n in range(3):
            sink.write(result(n))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["line.jsonl", "line.jsonl.1"]
    with pytest.raises(ConfigError, match="'ng' or 'all'"):
        open_sink("http://host", webhook_only="ok")  # type: ignore[arg-type]


def test_no_library_is_loaded_before_its_sink_is_opened() -> None:
    code = (
        "import sys; from simplenet_edge.runtime.sinks import open_sink; "
        "open_sink('mqtt://h/t'); open_sink('modbus://h'); open_sink('http://h'); "
        "print([name for name in ('paho', 'pymodbus', 'httpx', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
