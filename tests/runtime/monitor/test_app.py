"""The HTTP interface, asked over real sockets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from simplenet_edge.errors import BundleError, RecipeError, SimpleNetEdgeError
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.records import Part
from simplenet_edge.runtime.snapshot import STALE_S
from simplenet_edge.runtime.status import LineStatus
from tests.runtime.monitor.conftest import Make

ODD_NAME = '<img src=x onerror="alert(1)">/2'
OURS = {"X-Simplenet-Edge": "1"}


@pytest.fixture
def monitor(status: LineStatus) -> Iterator[Monitor]:
    with Monitor(status, port=0) as monitor:
        yield monitor


@pytest.fixture
def client(monitor: Monitor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=monitor.url, trust_env=False, timeout=60) as client:
        yield client


def test_the_page_brings_all_it_needs_and_allows_nothing_else(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert "access-control-allow-origin" not in page.headers
    assert "://" not in page.text
    assert client.get("/monitor.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/monitor.css").headers["content-type"].startswith("text/css")
    assert client.get("/icon.svg").headers["content-type"].startswith("image/svg+xml")


@pytest.mark.parametrize("path", ["/../app.py", "/%2e%2e/app.py", "/app.py", "/page/index.html", "/api", "/docs"])
def test_nothing_else_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_status_is_the_snapshot(client: httpx.Client, status: LineStatus, make: Make) -> None:
    status.add(make("NG"))
    answer = client.get("/api/status").json()
    assert answer["cameras"]["top"]["ng"] == 1
    assert answer["monitor"]["can_swap"] is False
    assert set(answer) == {*status.snapshot().to_dict(), "monitor"}


def test_history_goes_on_from_where_one_was(client: httpx.Client, monitor: Monitor, make: Make) -> None:
    monitor.sink.write(make("OK", at_s=1.0))
    monitor.sink.write(make("NG", ODD_NAME, at_s=2.0))
    first = client.get("/api/history").json()
    assert first["sequence"] == 2
    assert first["cameras"]["top"]["shown"]["verdict"] == "OK"
    assert len(first["cameras"][ODD_NAME]["points"]) == 1
    monitor.sink.write(make("OK", at_s=3.0))
    after = client.get("/api/history", params={"since": 2, "camera": "top"}).json()
    assert list(after["cameras"]) == ["top"]
    assert [point["verdict"] for point in after["cameras"]["top"]["points"]] == ["OK"]


@pytest.mark.parametrize("since", ["-1", "yesterday", "1.5", "", "9" * 5000])
def test_a_since_that_is_no_number_is_refused(client: httpx.Client, since: str) -> None:
    answer = client.get("/api/history", params={"since": since})
    assert answer.status_code == 400
    assert "since must be" in answer.json()["error"]


def test_frames_and_pictures_of_bad_parts(client: httpx.Client, monitor: Monitor, make: Make) -> None:
    assert client.get("/api/frame/top.jpg").status_code == 404
    monitor.sink.write(make("NG", ODD_NAME, name="part7.png"))
    path = f"/api/frame/{quote(ODD_NAME, safe='')}.jpg"
    hot, plain = client.get(path), client.get(path, params={"heat": 0})
    assert hot.headers["content-type"] == "image/jpeg"
    assert hot.content.startswith(b"\xff\xd8")
    assert hot.content != plain.content
    assert client.get(path, params={"heat": "maybe"}).status_code == 400
    content = client.get("/api/gallery").json()
    (item,) = content["items"]
    assert (item["name"], item["camera"]) == ("part7.png", ODD_NAME)
    assert content["totals"] == [{"camera": ODD_NAME, "verdict": "NG", "total": 1}]
    hot, plain = client.get(f"/{item['image']}"), client.get(f"/{item['image']}?heat=0")
    assert hot.content.startswith(b"\xff\xd8")
    assert hot.content != plain.content
    assert client.get(f"/{item['image']}?heat=2").json() == {"error": "heat must be 0 or 1, not '2'"}
    assert client.get("/api/gallery/99.jpg").status_code == 404
    for other in ("x", "-1", "9" * 5000, "%D9%A1"):  # Python refuses to read the third one, and would read the last
        assert client.get(f"/api/gallery/{other}.jpg").status_code == 404


def test_a_new_shift_counts_anew_and_the_hours_go_on(client: httpx.Client, status: LineStatus, make: Make) -> None:
    for verdict in ("OK", "OK", "NG", "INVALID"):
        status.add(make(verdict))
    shift = client.get("/api/status").json()["cameras"]["top"]["shift"]
    assert (shift["ok"], shift["ng"], shift["invalid"]) == (2, 1, 1)
    assert client.post("/api/shift").status_code == 403
    assert client.post("/api/shift", headers=OURS).status_code == 200
    status.add(make("NG"))
    camera = client.get("/api/status").json()["cameras"]["top"]
    assert (camera["shift"]["ok"], camera["shift"]["ng"], camera["ng"]) == (0, 1, 2)
    (hour,) = client.get("/api/hours").json()["cameras"]["top"]
    assert hour == {"hour": "2026-03-01T12:00+00:00", "ok": 2, "ng": 2, "invalid": 1}


def test_health_says_why_not(client: httpx.Client, status: LineStatus) -> None:
    assert client.get("/health").status_code == 200
    status.connection("top", connected=False, reconnects=0)
    status.raise_alarm("drift", "scores rise", "top")
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["camera top is away"]
    assert answer.json()["alarms"][0]["text"] == "scores rise"
    status.pulse("stopping")
    assert client.get("/health").json()["reasons"] == ["the line is stopping", "camera top is away"]


def test_silence_is_a_reason(status: LineStatus) -> None:
    known = status.snapshot()
    silent = dataclasses.replace(known.cameras["top"], last_result_age_s=STALE_S + 2)
    assert dataclasses.replace(known, cameras={"top": silent}).problems == ["camera top has given no result for 12 s"]


def test_a_camera_that_never_gave_anything_is_a_reason(status: LineStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that takes the connection and says nothing, with silence=off."""
    status.add_camera("mute", live=True)
    status.add_camera("hand", live=False)
    later = time.monotonic() + STALE_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    status.pulse("running")
    assert "camera mute has given no result for 11 s" in status.snapshot().problems
    assert not any("hand" in problem for problem in status.snapshot().problems)


def test_an_engine_that_hangs_is_a_reason(status: LineStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status.snapshot().problems == []
    later = time.monotonic() + STALE_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert status.snapshot().problems == ["the engine has not come back from a frame for 11 s"]


def test_metrics(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'simplenet_edge_sink_lost_total{sink="line.jsonl"} 3.0' in answer.text


def test_another_name_for_the_loopback_address_is_refused(client: httpx.Client, monitor: Monitor) -> None:
    port = monitor.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    for host in (f"evil.example:{port}", "localhost.evil.example", "[", ""):
        assert client.get("/health", headers={"Host": host}).status_code == 403


def test_without_a_swap_there_is_none(client: httpx.Client) -> None:
    assert client.post("/api/swap", headers=OURS).status_code == 404


def test_a_swap_needs_the_header_and_says_what_came_of_it(status: LineStatus) -> None:
    calls: list[str] = []

    def swap() -> str:
        calls.append("swap")
        if len(calls) > 1:
            raise BundleError("the bundle is damaged; copy it again")
        return "model 2 runs"

    with (
        Monitor(status, port=0, swap=swap) as monitor,
        httpx.Client(base_url=monitor.url, trust_env=False, timeout=60) as client,
    ):
        assert client.get("/api/status").json()["monitor"]["can_swap"] is True
        assert client.get("/api/swap", headers=OURS).status_code == 405
        assert client.post("/api/swap").status_code == 403
        assert client.options("/api/swap", headers={"Origin": "http://evil.example"}).status_code == 405
        assert calls == []
        answer = client.post("/api/swap", headers=OURS)
        assert (answer.status_code, answer.json()) == (200, {"text": "model 2 runs"})
        answer = client.post("/api/swap", headers=OURS)
        assert (answer.status_code, answer.json()) == (500, {"error": "the bundle is damaged; copy it again"})


def test_a_change_of_the_recipe(status: LineStatus) -> None:
    calls: list[str] = []

    def select(name: str) -> str:
        calls.append(name)
        if name != "7":
            raise RecipeError(f"no recipe is called {name!r}; this line has gear, shaft & co")
        return "shaft & co"

    with (
        Monitor(status, port=0, select=select) as monitor,
        httpx.Client(base_url=monitor.url, trust_env=False, timeout=60) as client,
    ):
        answer = client.get("/api/status").json()
        assert answer["monitor"]["can_select"] is True
        assert answer["recipes"]["names"] == ["gear", "shaft"]
        assert client.get("/api/recipe?name=7", headers=OURS).status_code == 405
        assert client.post("/api/recipe?name=7").status_code == 403
        answer = client.post("/api/recipe", headers=OURS)
        assert (answer.status_code, answer.json()) == (400, {"error": "name the recipe: /api/recipe?name=NAME"})
        assert calls == []
        answer = client.post("/api/recipe", params={"name": "7"}, headers=OURS)
        assert (answer.status_code, answer.json()) == (200, {"text": "recipe shaft & co is selected"})
        for unknown in ("", "gear & lever/ä", "x" * 5000):
            answer = client.post("/api/recipe", params={"name": unknown}, headers=OURS)
            assert answer.status_code == 404
            assert answer.json() == {"error": f"no recipe is called {unknown!r}; this line has gear, shaft & co"}
        assert calls[-2] == "gear & lever/ä"


def test_without_a_way_to_change_the_recipe_there_is_none(client: httpx.Client) -> None:
    assert client.get("/api/status").json()["monitor"]["can_select"] is False
    assert client.post("/api/recipe?name=gear", headers=OURS).status_code == 404


def test_parts_and_recipes_are_in_the_history_and_the_gallery(
    client: httpx.Client, monitor: Monitor, make: Make
) -> None:
    monitor.sink.write(make("NG", part=Part("4711", "shaft")))
    shown = client.get("/api/history").json()["cameras"]["top"]["shown"]
    (item,) = client.get("/api/gallery").json()["items"]
    for found in (shown, item):
        assert (found["part_id"], found["recipe"]) == ("4711", "shaft")


def test_one_swap_at_a_time_and_health_answers_meanwhile(status: LineStatus) -> None:
    started, go_on = threading.Event(), threading.Event()

    def swap() -> str:
        started.set()
        assert go_on.wait(60)
        return "done"

    with (
        Monitor(status, port=0, swap=swap) as monitor,
        httpx.Client(base_url=monitor.url, trust_env=False, timeout=60) as client,
    ):
        answers: list[httpx.Response] = []
        url = f"{monitor.url}/api/swap"
        first = threading.Thread(
            target=lambda: answers.append(httpx.post(url, headers=OURS, trust_env=False, timeout=60))
        )
        first.start()
        assert started.wait(60)
        try:
            assert client.post("/api/swap", headers=OURS).status_code == 409
            assert client.get("/health").status_code == 200
        finally:
            go_on.set()
            first.join()
        assert answers[0].json() == {"text": "done"}


def test_a_port_that_is_taken_is_a_clear_error(monitor: Monitor, status: LineStatus) -> None:
    port = int(monitor.url.rpartition(":")[2])
    other = Monitor(status, port=port)
    with pytest.raises(SimpleNetEdgeError, match=f"{port} can't be listened on"):
        other.__enter__()


def test_without_the_extra_the_message_names_it() -> None:
    code = (
        "import sys\n"
        "from simplenet_edge.runtime.monitor import Monitor\n"
        "from simplenet_edge.runtime.status import LineStatus\n"
        "assert not {'starlette', 'uvicorn', 'prometheus_client'} & set(sys.modules)\n"
        "sys.modules['starlette'] = sys.modules['starlette.applications'] = None\n"
        "Monitor(LineStatus(), port=0).__enter__()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'simplenet-edge[serve]'" in done.stderr.splitlines()[-1]
