"""The server over real sockets, asked by Triton's client and by clients that no one would want."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.onnxruntime import OnnxRuntimeEngine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.serving.batcher import BatchConfig
from simplenet_edge.serving.server import ModelServer
from simplenet_edge.spec import Frames, OperatingPoint, Prediction
from tests.bundles import HEIGHT, THRESHOLD, WIDTH, even_frames, with_spot, write_tiny_bundle
from tests.serving.clients import client_of, infer
from tests.waiting import SOON_S, until

TOKEN = "correct horse battery staple"


class HeldEngine(FakeEngine):
    """Answers once it is let go."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.go = threading.Event()
        self.sizes: list[int] = []

    def _predict(self, frames: Frames) -> Prediction:
        self.sizes.append(len(frames))
        assert self.go.wait(SOON_S)
        return super()._predict(frames)


@pytest.fixture
def held(bundle: Bundle) -> Iterator[HeldEngine]:
    with HeldEngine(bundle) as engine:
        yield engine
        engine.go.set()


@pytest.fixture
def web(server: ModelServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) as web:
        yield web


def counted(web: httpx.Client, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    samples = [
        sample
        for family in text_string_to_metric_families(web.get("/metrics").text)
        for sample in family.samples
        if sample.name == f"simplenet_edge_serving_{name}" and labels.items() <= sample.labels.items()
    ]
    return sum(sample.value for sample in samples)


def test_scores_are_those_of_verify_and_of_the_detector(server: ModelServer, engine: Engine) -> None:
    frames, _ = engine.bundle.golden()
    with OnnxRuntimeEngine(engine.bundle, threads=1) as again:
        expected = [frame.found_score for frame in verify(again).require().frames]
        detections = Detector(again).infer(list(frames))
    found = infer(client_of(server.url), "tiny", frames)
    scores = found.as_numpy("score")
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)
    assert scores.tolist() == pytest.approx([one.score for one in detections], rel=1e-6)
    threshold = found.get_response()["parameters"]["threshold"]
    assert [bool(score > threshold) for score in scores] == [one.verdict == "NG" for one in detections]


def test_says_what_decides(server: ModelServer, bundle: Bundle) -> None:
    client = client_of(server.url)
    expected = {"bundle_id": bundle.id, "precision": "fp32", "engine": "onnxruntime", "threshold": THRESHOLD}
    assert client.get_model_metadata("tiny")["parameters"] == expected
    assert infer(client, "tiny", even_frames(1)).get_response()["parameters"] == expected
    about = client.get_server_metadata()
    assert (about["name"], "binary_tensor_data" in about["extensions"]) == ("simplenet-edge", True)


def test_versions(bundle: Bundle, tmp_path: Path) -> None:
    strict = write_tiny_bundle(tmp_path / "strict", operating_point=OperatingPoint(20.0, 0.05, 40, True))
    with (
        FakeEngine(bundle) as first,
        FakeEngine(strict) as second,
        FakeEngine(bundle) as other,
        ModelServer([("part", first), ("part", second), ("other", other)], port=0) as server,
    ):
        client = client_of(server.url)
        assert client.get_model_metadata("part")["versions"] == ["1", "2"]
        for version, expected in (("", strict), ("1", bundle), ("2", strict)):
            assert client.is_model_ready("part", version)
            answer = infer(client, "part", even_frames(1), model_version=version).get_response()
            assert answer["parameters"]["bundle_id"] == expected.id
            assert answer["model_version"] == (version or "2")
        with pytest.raises(InferenceServerException, match="expected a version of part from 1, 2, found '3'"):
            infer(client, "part", even_frames(1), model_version="3")
        index = [(one["name"], one["version"], one["state"]) for one in client.get_model_repository_index()]
        assert index == [("part", "1", "READY"), ("part", "2", "READY"), ("other", "1", "READY")]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "a\n", "ä", "x" * 101])
def test_names_that_are_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(ConfigError, match="a model's name"):
        ModelServer([(name, FakeEngine(bundle))], port=0).__enter__()


def test_many_clients_share_calls_of_the_engine(held: HeldEngine) -> None:
    with ModelServer([("tiny", held)], port=0, batches=BatchConfig(max_batch=4)) as server:
        frames = with_spot(even_frames(9, seed=3))
        with ThreadPoolExecutor(9) as pool:

            def ask(row: int) -> float:
                found = infer(client_of(server.url), "tiny", frames[row : row + 1], outputs=("score",))
                return float(found.as_numpy("score")[0])

            answers = [pool.submit(ask, row) for row in range(9)]
            with httpx.Client(base_url=server.url, trust_env=False) as web:
                until(lambda: held.sizes and counted(web, "waiting_frames") == 9 - held.sizes[0])
                held.go.set()
                found = [answer.result(SOON_S) for answer in answers]
                assert counted(web, "frames_total", model="tiny", version="1") == 9
                assert counted(web, "requests_total", code="200") == 9
                assert counted(web, "batch_frames_count") == len(held.sizes)
                assert counted(web, "queue_seconds_count") == 9
    assert max(held.sizes) == 4
    with FakeEngine(held.bundle) as alone:
        assert found == pytest.approx(alone.predict(frames).score.tolist())


def post(web: httpx.Client, frames: Frames) -> httpx.Response:
    tensor = {"name": "frames", "datatype": "UINT8", "shape": list(frames.shape), "data": frames.ravel().tolist()}
    return web.post("/v2/models/tiny/infer", json={"inputs": [tensor], "outputs": [{"name": "score"}]})


def test_a_full_queue_is_503_at_once_and_those_who_left_are_not_computed(held: HeldEngine) -> None:
    with (
        ModelServer([("tiny", held)], port=0, batches=BatchConfig(max_batch=1, queue=1)) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) as web,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(post, web, even_frames(1))
        until(lambda: held.sizes)
        with httpx.Client(base_url=server.url, trust_env=False, timeout=0.5) as hasty, pytest.raises(httpx.ReadTimeout):
            post(hasty, even_frames(1))
        until(lambda: counted(web, "requests_total", code="499") == 1)
        answer = post(web, even_frames(1))
        assert answer.status_code == 503
        assert "found 1 of 1 waiting" in answer.json()["error"]
        held.go.set()
        assert first.result(SOON_S).status_code == 200
        assert post(web, even_frames(1)).status_code == 200
    assert held.sizes == [1, 1]


def test_a_request_that_waits_too_long_is_given_up(held: HeldEngine) -> None:
    with (
        ModelServer([("tiny", held)], port=0, timeout_s=0.3) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) as web,
    ):
        answer = post(web, even_frames(1))
        assert (answer.status_code, "within 0.3 s" in answer.json()["error"]) == (503, True)
        held.go.set()
        assert post(web, even_frames(1)).status_code == 200


def test_a_call_that_fails_is_500_and_the_next_one_works(bundle: Bundle) -> None:
    with (
        FakeEngine(bundle, fail_on=[0]) as engine,
        ModelServer([("tiny", engine)], port=0) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) as web,
    ):
        answer = post(web, even_frames(1))
        assert (answer.status_code, "fails on call 0" in answer.json()["error"]) == (500, True)
        assert post(web, even_frames(1)).status_code == 200
        assert counted(web, "failed_frames_total") == counted(web, "frames_total") == 1


def test_what_waits_at_the_end_is_answered(held: HeldEngine) -> None:
    server = ModelServer([("tiny", held)], port=0).__enter__()
    leave = threading.Thread(target=server.__exit__, args=(None, None, None))
    with (
        ThreadPoolExecutor(3) as pool,
        httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) as web,
    ):
        assert web.get("/v2/health/ready").json() == {"ready": True}
        answers = [pool.submit(post, web, even_frames(1)) for _ in range(3)]
        until(lambda: held.sizes and counted(web, "waiting_frames") == 3 - held.sizes[0])
        leave.start()
        until(lambda: web.get("/v2/health/ready").status_code == 503)
        assert web.get("/v2/health/live").status_code == 200
        assert web.get("/v2/models/tiny/ready").status_code == 503
        refused = post(web, even_frames(1))
        assert (refused.status_code, "about to end" in refused.json()["error"]) == (503, True)
        held.go.set()
        assert [answer.result(SOON_S).status_code for answer in answers] == [200] * 3
        leave.join()


GOOD = {"name": "frames", "datatype": "UINT8", "shape": [1, HEIGHT, WIDTH, 3], "data": [7] * (HEIGHT * WIDTH * 3)}
HEAD = json.dumps(
    {
        "inputs": [
            {
                "name": "frames",
                "datatype": "UINT8",
                "shape": [1, HEIGHT, WIDTH, 3],
                "parameters": {"binary_data_size": 4608},
            }
        ]
    }
).encode()


@pytest.mark.parametrize(
    ("code", "body", "headers"),
    [
        (200, HEAD + bytes(4608), {"Inference-Header-Content-Length": str(len(HEAD))}),
        (400, HEAD + bytes(4608), {}),
        (400, HEAD + bytes(4608), {"Inference-Header-Content-Length": "-5"}),
        (400, HEAD + bytes(4608), {"Inference-Header-Content-Length": "1" * 30}),
        (400, HEAD + bytes(4609), {"Inference-Header-Content-Length": str(len(HEAD))}),
        (400, b"{" * 20_000, {}),
        (400, b"\xff\xfe{", {}),
        (400, b"", {}),
        (400, json.dumps({"inputs": [GOOD], "id": "\ud800", "outputs": [{"name": "\ud800"}]}).encode(), {}),
        (413, bytes(2**20), {}),
        (413, bytes(2**20), {"Inference-Header-Content-Length": "10"}),
        (415, gzip.compress(json.dumps({"inputs": [GOOD]}).encode()), {"Content-Encoding": "gzip"}),
        (200, json.dumps({"inputs": [GOOD]}).encode(), {"Content-Encoding": "identity"}),
    ],
)
def test_bodies(web: httpx.Client, code: int, body: bytes, headers: dict[str, str]) -> None:
    before = counted(web, "requests_total", code=str(code))
    answer = web.post("/v2/models/tiny/infer", content=body, headers=headers)
    assert answer.status_code == code, answer.text
    assert (code == 200) != ("error" in answer.json())
    chunked = web.post("/v2/models/tiny/infer", content=iter([body[:100], body[100:]]), headers=headers)
    assert chunked.status_code == code
    assert counted(web, "requests_total", code=str(code)) == before + 2
    assert web.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}).status_code == 200


def test_an_id_comes_back_whatever_it_is(web: httpx.Client) -> None:
    body = json.dumps({"inputs": [GOOD], "id": "\ud800ä\n"})
    assert json.loads(web.post("/v2/models/tiny/infer", content=body).content)["id"] == "\ud800ä\n"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/%ED%A0%80", 404),
        ("GET", "/v2/models/tiny/versions/01", 404),
        ("GET", "/v2/models/tiny/versions/2/ready", 404),
        ("POST", "/v2/models/absent/infer", 404),
        ("GET", "/v2/models/tiny/infer", 405),
        ("POST", "/v2/repository/models/tiny/unload", 404),
    ],
)
def test_addresses_that_are_not_there(web: httpx.Client, method: str, path: str, code: int) -> None:
    answer = web.request(method, path)
    assert (answer.status_code, list(answer.json())) == (code, ["error"])


def test_clients_that_break_off_harm_nobody(web: httpx.Client) -> None:
    for sent in (
        b"POST /v2/mod",
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n{",
    ):
        for _ in range(20):
            with socket.create_connection((web.base_url.host, web.base_url.port or 0), timeout=SOON_S) as client:
                client.sendall(sent)
    assert post(web, even_frames(1)).status_code == 200


def test_sixty_four_clients_and_a_scraper_stay_connected(server: ModelServer, web: httpx.Client) -> None:
    clients = [httpx.Client(base_url=server.url, trust_env=False, timeout=SOON_S) for _ in range(64)]
    for _ in range(2):
        assert [client.get("/v2/health/ready").status_code for client in clients] == [200] * 64
        assert counted(web, "threshold") == THRESHOLD
    for client in clients:
        client.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "edge.local"])
def test_the_network_needs_a_token(bundle: Bundle, host: str) -> None:
    with pytest.raises(ConfigError, match="SIMPLENET_EDGE_SERVE_TOKEN"):
        ModelServer([("tiny", FakeEngine(bundle))], host=host)


def test_only_health_is_open_to_those_without_the_token(bundle: Bundle) -> None:
    with (
        FakeEngine(bundle) as engine,
        ModelServer([("tiny", engine)], host="0.0.0.0", port=0, token=TOKEN) as server,
        httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"), trust_env=False, timeout=SOON_S) as web,
    ):
        for path in ("/v2", "/v2/models/tiny", "/v2/models/tiny/infer", "/metrics", "/v2/health/ready/"):
            assert web.get(path).status_code == 401
        assert web.post("/v2/models/tiny/infer", json={"inputs": [GOOD]}).status_code == 401
        assert web.get("/v2/health/ready").status_code == web.get("/v2/health/live").status_code == 200
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert web.get("/v2", headers=known | {"Host": "scoring.plant:8000"}).status_code == 200
        client = client_of(str(web.base_url))
        assert client.is_server_ready()
        assert infer(client, "tiny", even_frames(1), headers=known).as_numpy("score").shape == (1,)


def test_without_a_token_only_names_of_this_machine_are_answered(web: httpx.Client) -> None:
    assert web.get("/v2", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"connections": 0}])
def test_limits_that_can_t_be(bundle: Bundle, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ModelServer([("tiny", FakeEngine(bundle))], **options)
