from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SinkError
from simplenet_edge.runtime.sinks import MqttAddress, MqttSink, Spool, open_sink
from simplenet_edge.runtime.sinks.mqtt import PASSWORD_VARIABLE
from simplenet_edge.runtime.snapshot import SinkSnapshot
from tests.runtime.sinks.brokers import Broker
from tests.runtime.sinks.results import result, worker
from tests.servers import free_port, program
from tests.waiting import until

pytestmark = pytest.mark.slow


class Listener:
    """What a client that stays for good (the broker's restarts too) hears of `line/#`: topic and text."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, str]] = []
        self.subscribed = threading.Event()
        # A session that the broker keeps: it may miss nothing while this busy machine keeps it from its socket.
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("line/#", qos=1)
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_disconnect = lambda *_: self.subscribed.clear()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self.subscribed.wait(60)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.heard.append((message.topic, message.payload.decode()))

    def ids(self, topic: str = "line/left") -> list[int]:
        return [json.loads(text)["frame_id"] for heard, text in self.heard if heard == topic]

    def states(self) -> list[str]:
        return [text for topic, text in self.heard if topic == "line/status"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker.port)
    yield listener
    listener.close()


def sink_to(broker: Broker, spool: Path | None = None) -> MqttSink:
    return MqttSink(MqttAddress("127.0.0.1", "line", broker.port), None if spool is None else Spool(spool))


@pytest.mark.parametrize("spooled", [True, False])
def test_publishes_each_result_under_its_camera_and_its_state(
    tmp_path: Path, broker: Broker, listener: Listener, spooled: bool
) -> None:
    given = result(1, "NG", camera="left")
    with sink_to(broker, tmp_path / "spool" if spooled else None) as sink:
        sink.write(given)
        sink.write(result(2, camera="right #1/+"))
        sink.write(result(3, "INVALID", camera=""))
        sink.write(result(4, camera="status"))
    until(lambda: listener.states()[-1:] == ["offline"])
    by_topic = dict(listener.heard)
    assert json.loads(by_topic["line/left"]) == given.to_dict()
    assert listener.ids("line/right_1_") == [2]
    assert listener.ids("line") == [3]
    assert listener.ids("line/status_") == [4]
    assert listener.states() == ["online", "offline"]
    assert sink.waiting == sink.lost == 0


def test_what_was_not_delivered_is_after_the_broker_is_back_in_order_and_once(
    tmp_path: Path, broker: Broker, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    with worker(sink_to(broker, tmp_path / "spool"), wait=False) as line:
        for n in range(50):
            line.submit(result(n))
        until(lambda: len(listener.ids()) == 50 and line.snapshot().waiting == 0)
        broker.kill()
        for n in range(50, 120):
            line.submit(result(n))
        until(lambda: line.snapshot().error and line.snapshot().waiting == 70)
        assert "the broker takes no results" in (line.snapshot().error or "")
        listener.subscribed.clear()
        broker.start()
        # The sink may be back before the listener, which then misses some: it counts what came after all the same.
        until(lambda: line.snapshot().waiting == 0 and listener.subscribed.is_set())
        until(lambda: line.snapshot().error is None)
        for n in range(120, 150):
            line.submit(result(n))
        until(lambda: line.snapshot().waiting == 0)
        assert line.snapshot() == SinkSnapshot(150, 0, 0, None)
    until(lambda: listener.ids()[-1:] == [149])
    heard = listener.ids()
    assert heard == sorted(set(heard))
    messages = [record.message.split("(")[0] for record in caplog.records]
    assert sum("the broker takes no results" in message for message in messages) == 1  # not once a frame or a retry


def test_results_of_a_whole_run_without_a_broker_come_with_the_next_run(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with worker(sink_to(broker, tmp_path / "spool"), wait=True) as line:
        for n in range(100):
            line.submit(result(n))
    assert line.snapshot().lost == 0
    broker.start()
    listener = Listener(broker.port)
    with worker(sink_to(broker, tmp_path / "spool"), wait=True) as line:
        line.submit(result(100))
    assert line.snapshot().waiting == 0
    until(lambda: listener.states() == ["online", "offline"])
    assert listener.ids() == list(range(101))
    listener.close()
    broker.kill()


KILLED = """
import sys, threading
from pathlib import Path
from simplenet_edge.runtime.sinks import SinkWorker, open_sink
from tests.runtime.sinks.results import result
worker = SinkWorker(open_sink(sys.argv[1], spool_folder=Path(sys.argv[2])), capacity=2000, wait=False)  # none is lost
worker.open()
for n in range(2000):
    worker.submit(result(n))
    if n == 900:
        print("go on", flush=True)
threading.Event().wait()
"""


def test_a_killed_line_is_offline_by_its_will_and_its_spool_is_delivered_by_the_next(
    tmp_path: Path, broker: Broker, listener: Listener
) -> None:
    address = f"mqtt://127.0.0.1:{broker.port}/line"
    command = [sys.executable, "-c", KILLED, address, str(tmp_path / "spools")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        until(lambda: len(listener.ids()) > 20)
        run.send_signal(signal.SIGKILL)
    until(lambda: listener.states() == ["online", "offline"])
    with worker(open_sink(address, spool_folder=tmp_path / "spools"), wait=True) as line:
        line.submit(result(5000))
        until(lambda: line.snapshot().waiting == 0)
    until(lambda: listener.ids()[-1:] == [5000])
    heard = listener.ids()
    once = list(dict.fromkeys(heard))
    assert once[:-1] == list(range(len(once) - 1))  # all that reached the disk, in order
    assert len(heard) - len(once) <= MqttSink.batch  # what was under way comes again


def test_lines_of_another_version_in_the_spool_are_delivered_and_hold_up_no_other(
    tmp_path: Path, broker: Broker, listener: Listener
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    for line in ('{"frame_id": 7}', '{"frame_id": 8, "camera": null}'):
        spool.append(line)
    spool.close()
    with sink_to(broker, tmp_path / "spool") as sink:
        sink.write(result(1))
        until(lambda: not sink.idle() and sink.waiting == 0)
        until(lambda: listener.ids() == [1])
    assert listener.ids("line") == [7, 8]


def test_results_that_a_full_spool_drops_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    address = MqttAddress("127.0.0.1", "line", free_port())
    with MqttSink(address, Spool(tmp_path / "spool", 64 * 1024)) as sink:
        while not sink.lost:
            sink.write(result(1))
    assert any("results are lost, the spool is full" in text for text in caplog.messages)


def test_without_a_spool_a_broker_that_is_away_is_an_error(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with pytest.raises(SinkError, match=r"takes no results .*refused"):
        sink_to(broker).open()
    broker.start()
    with sink_to(broker) as sink:
        sink.write(result(1))
        broker.kill()
        with pytest.raises(SinkError, match="takes no results"):
            sink.write(result(2))
        broker.start()
        sink.write(result(3))
    broker.kill()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`, which signed `server.pem` for 127.0.0.1, and a `stranger.pem` that signed nothing."""
    folder = tmp_path_factory.mktemp("certificates")
    openssl = program("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    for name in ("ca", "stranger"):
        run(*new, "-subj", f"/CN={name}", *usage, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "server.key")
    run("req", *key, "-subj", "/CN=127.0.0.1", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "server.csr", *signed_by, "-out", "server.pem")
    return folder


@pytest.fixture
def tls_broker(tmp_path: Path, certificates: Path) -> Iterator[Broker]:
    """Takes the user `cell` with the password `p@ss` only."""
    passwords = tmp_path / "passwords"
    subprocess.run(
        [program("mosquitto_passwd"), "-b", "-c", passwords, "cell", "p@ss"], check=True, capture_output=True
    )
    options = f"certfile {certificates}/server.pem\nkeyfile {certificates}/server.key\npassword_file {passwords}"
    broker = Broker(tmp_path, options)
    broker.start()
    yield broker
    broker.kill()


def test_encrypted_and_with_a_password(certificates: Path, tls_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    options = f"127.0.0.1:{tls_broker.port}/line?cafile={certificates}/ca.pem"
    with open_sink(f"mqtts://cell:p%40ss@{options}") as sink:
        sink.write(result(1))
    monkeypatch.setenv(PASSWORD_VARIABLE, "p@ss")
    with open_sink(f"mqtts://cell@{options}") as sink:
        sink.write(result(1))
    assert "p@ss" not in sink.name + repr(MqttAddress.parse(f"mqtts://cell@{options}"))
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(SinkError, match=r"it refuses: Not authorized"):
        open_sink(f"mqtts://cell@{options}").open()


# paho-mqtt leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cafile", ["?cafile={}/stranger.pem", ""], ids=["stranger", "system"])
def test_a_broker_that_nobody_trusted_is_refused(certificates: Path, tls_broker: Broker, cafile: str) -> None:
    address = f"mqtts://cell:p%40ss@127.0.0.1:{tls_broker.port}/line{cafile.format(certificates)}"
    with pytest.raises(SinkError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        open_sink(address).open()


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=f"cafile .*{name} can't be used"):
            MqttSink(MqttAddress("127.0.0.1", "line", tls=True, cafile=tmp_path / name)).open()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt://host/line", MqttAddress("host", "line")),
        ("mqtts://host/a/b/", MqttAddress("host", "a/b", 8883, tls=True)),
        ("mqtt://u:p%3A@[::1]:9/line%201", MqttAddress("::1", "line 1", 9, username="u", password="p:")),
        ("mqtts://h/t?cafile=a/b.pem", MqttAddress("h", "t", 8883, tls=True, cafile=Path("a/b.pem"))),
    ],
)
def test_addresses(text: str, address: MqttAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert MqttAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "mqtt://",
        "mqtt://host",
        "mqtt:///topic",
        "mqtt://host/a/+/b",
        "mqtt://host/a%23",
        "mqtt://host:99999/a",
        "mqtt://host:x/a",
        "mqtt://host/a?qos=2",
        "mqtt://host/a?cafile",
        "mqtt://host/a?cafile=b.pem",
        "mqtt://:secret@host/a",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected an address|expected a host|mqtts://|needs a user") as caught:
        MqttAddress.parse(text)
    assert "secret" not in str(caught.value)


def test_without_paho_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.enums", None)
    with pytest.raises(SimpleNetEdgeError, match=r"pip install 'simplenet-edge\[mqtt\]'"):
        MqttSink(MqttAddress("127.0.0.1", "line", free_port())).open()
