"""Who may ask the monitor, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.status import LineStatus

TOKEN = "correct horse battery staple"
PATHS = [
    "/api/status",
    "/api/history",
    "/api/hours",
    "/api/gallery",
    "/api/gallery/1.jpg",
    "/api/frame/top.jpg",
    "/metrics",
    "/monitor.js",
]


@pytest.fixture
def monitor(status: LineStatus) -> Iterator[Monitor]:
    """As the network would see it, though only this machine is asked."""
    with Monitor(status, host="0.0.0.0", port=0, token=TOKEN, swap=lambda: "swapped") as monitor:
        yield monitor


@pytest.fixture
def client(monitor: Monitor) -> Iterator[httpx.Client]:
    url = monitor.url.replace("0.0.0.0", "127.0.0.1")
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_the_token(client: httpx.Client, path: str) -> None:
    wrong = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": f"simplenet_edge={TOKEN}"}]
    for headers in wrong:
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "the token is missing"})
    answer = client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in (200, 404)


def test_a_swap_needs_the_token_and_the_header(client: httpx.Client) -> None:
    ours = {"X-Simplenet-Edge": "1"}
    assert client.post("/api/swap", headers=ours).status_code == 401
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/api/swap", headers=known).status_code == 403
    assert client.post("/api/swap", headers=known | ours).json() == {"text": "swapped"}


def test_health_says_yes_or_no_to_all_and_why_to_those_who_are_known(client: httpx.Client, status: LineStatus) -> None:
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"healthy": True})
    status.connection("top", connected=False, reconnects=0)
    assert client.get("/health").json() == {"healthy": False}
    known = client.get("/health", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (known.status_code, known.json()["reasons"]) == (503, ["camera top is away"])


def test_a_browser_asks_for_the_token_once(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 401
    assert 'action="login"' in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert client.post("/login", content=b"token=" + b"x" * 2000).status_code == 413
    answer = client.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN.split()[0] not in cookie
    assert client.get("/").status_code == client.get("/api/status").status_code == 200


def test_names_that_are_not_this_machine_s_are_refused(client: httpx.Client) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    for host in ("192.168.7.9", "[fe80::1]:8080", "localhost", socket.gethostname()):
        assert client.get("/api/status", headers=known | {"Host": host}).status_code == 200
    for host in ("evil.example", "192.168.7.9.evil.example", "", "["):
        assert client.get("/api/status", headers=known | {"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.9", "edge.local", ""])
def test_the_network_needs_a_token(status: LineStatus, host: str) -> None:
    with pytest.raises(ConfigError, match="SIMPLENET_EDGE_MONITOR_TOKEN"):
        Monitor(status, host=host, port=0)


@pytest.mark.parametrize("token", ["", "short", "fifteen letters", "a line\nand another one", "sechzehn Zeichén"])
def test_a_token_that_is_easy_is_refused(status: LineStatus, token: str) -> None:
    with pytest.raises(ConfigError, match="at least 16 ASCII characters"):
        Monitor(status, port=0, token=token)
