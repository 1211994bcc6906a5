from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.records import FrameResult, Part
from simplenet_edge.runtime.sources import (
    HttpTriggered,
    StdinTriggered,
    SyntheticCamera,
    SyntheticParts,
    Triggered,
    open_source,
)
from tests.runtime.sources.test_http import line, verdict
from tests.runtime.sources.test_live import Scripted
from tests.waiting import SOON_S, until


@pytest.fixture
def camera() -> Scripted:
    return Scripted()


@pytest.fixture
def source(camera: Scripted) -> Iterator[Triggered]:
    with Triggered(camera, timeout_s=SOON_S) as opened:
        yield opened


def level(record: object) -> int:
    image = record.image  # type: ignore[attr-defined]
    assert image is not None
    return int(image.max())


def test_the_frame_comes_from_after_the_trigger(camera: Scripted, source: Triggered) -> None:
    camera.script.put(50)
    until(lambda: camera.read == 1)
    before_s = time.monotonic()
    replies: list[FrameResult] = []
    source.fire(replies.append)
    camera.script.put(60)  # its grab was under way at the trigger
    camera.script.put(70)
    record = next(iter(source))
    assert level(record) == 70
    assert (record.frame_id, record.name, record.error) == (0, "scripted#0", None)
    assert before_s <= record.monotonic_s <= time.monotonic()
    assert record.reply is not None
    record.reply(verdict(record))
    assert [result.record for result in replies] == [record]


def test_a_busy_line_still_gets_the_frame_of_each_trigger(camera: Scripted, source: Triggered) -> None:
    for shown in (60, 80, 100):
        read = camera.read
        source.fire()
        camera.script.put(shown - 1)
        camera.script.put(shown)
        until(lambda read=read: camera.read == read + 2)  # type: ignore[misc]
        until(lambda: not source._asked)
    camera.script.put(200)
    frames = iter(source)
    assert [level(next(frames)) for _ in range(3)] == [60, 80, 100]


def test_two_triggers_before_one_frame_share_it(camera: Scripted, source: Triggered) -> None:
    source.fire()
    source.fire()
    camera.script.put(50)
    camera.script.put(60)
    frames = iter(source)
    assert [(record.frame_id, level(record)) for record in (next(frames), next(frames))] == [(0, 60), (1, 60)]


def test_without_a_frame_in_time_it_is_invalid(camera: Scripted) -> None:
    with Triggered(camera, timeout_s=0.05) as source:
        frames = iter(source)
        source.fire()
        record = next(frames)
        assert (record.image, record.error) == (None, "no frame within 0.05 s of the trigger")
        camera.refuse = "nobody answers"
        camera.script.put(SourceError("the cable is out"))
        until(lambda: camera.away == "nobody answers")
        source.fire()
        assert "the camera is away: nobody answers" in (next(frames).error or "")
        assert not source.connected


def test_a_frame_that_comes_too_late_is_no_frame(camera: Scripted) -> None:
    with Triggered(camera, timeout_s=0.05) as source:
        source.fire()
        until(lambda: time.monotonic() - source._asked[0].asked_s > 0.06)
        camera.script.put(50)
        camera.script.put(60)
        until(lambda: camera.read == 2)
        assert next(iter(source)).image is None


def test_a_faulty_picture_is_invalid_for_its_trigger(camera: Scripted, source: Triggered) -> None:
    source.fire()
    camera.script.put(50)
    camera.script.put(0)
    assert "the picture is black" in (next(iter(source)).error or "")


def test_too_many_triggers_are_refused(source: Triggered) -> None:
    for _ in range(16):
        source.fire()
    with pytest.raises(SourceError, match="16 triggers wait"):
        source.fire()


def test_stop_ends_the_wait(source: Triggered) -> None:
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    source.stop()
    thread.join(SOON_S)
    assert not thread.is_alive()


def test_over_http_each_post_gets_the_verdict_on_a_new_frame() -> None:
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=100)
    with HttpTriggered(camera, "127.0.0.1", 0, timeout_s=SOON_S) as source, line(source) as seen:
        for i in range(3):
            answer = httpx.post(source.posts.url, timeout=SOON_S)
            assert answer.status_code == 200
            assert answer.json() == verdict(seen[i]).to_dict()
            assert answer.json()["reason"] == "looked at (48, 64, 3)"
    assert [record.frame_id for record in seen] == [0, 1, 2]


def test_over_http_too_many_are_refused() -> None:
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=100)
    with HttpTriggered(camera, "127.0.0.1", 0) as source:
        for _ in range(16):
            source.fire()
        answer = httpx.post(source.posts.url, timeout=SOON_S)
        assert answer.status_code == 503
        assert "16 triggers wait" in answer.json()["error"]


def test_a_port_that_is_taken_leaves_the_camera_closed() -> None:
    with HttpTriggered(SyntheticCamera(SyntheticParts((64, 48)), fps=100), "127.0.0.1", 0) as source:
        port = httpx.URL(source.posts.url).port
        other = open_source(f"test://?fps=100#trigger=http:{port}")
        assert isinstance(other, HttpTriggered)
        with pytest.raises(Exception, match="can't be listened on"):
            other.__enter__()
        assert not other.camera.is_open


def test_a_trigger_says_which_part_it_is_and_by_which_recipe() -> None:
    camera = SyntheticCamera(SyntheticParts((64, 48)), fps=100)
    with HttpTriggered(camera, "127.0.0.1", 0, timeout_s=SOON_S) as source, line(source) as seen:
        asked: dict[str, str] = {"part_id": "SN 4711/ä", "recipe": "gear"}
        answer = httpx.post(source.posts.url, params=asked, timeout=SOON_S).json()
        assert (answer["part_id"], answer["recipe"]) == ("SN 4711/ä", "gear")
        assert httpx.post(source.posts.url, timeout=SOON_S).json()["part_id"] is None
        for bad in ("?part=1", "?part_id=a&part_id=b", "?part_id=", "?recipe=a%0Ab", f"?part_id={'x' * 129}"):
            refused = httpx.post(source.posts.url + bad, timeout=SOON_S)
            assert (refused.status_code, "expected" in refused.json()["error"]) == (400, True)
    assert [record.part for record in seen] == [Part("SN 4711/ä", "gear"), Part()]


def test_lines_on_standard_input_name_the_parts(camera: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        os.write(writer, b"SN1\tgear\r\n\nSN2\n\xff\n" + b"x" * 200 + b"\n\tshaft")
        os.close(writer)
        with StdinTriggered(camera, timeout_s=SOON_S) as source:
            until(lambda: source._last_asked)
            camera.script.put(50)
            camera.script.put(50)
            records = list(source)
    assert [record.part for record in records] == [
        Part("SN1", "gear"), Part(), Part("SN2"), Part(), Part(), Part(None, "shaft"),
    ]  # fmt: skip
    assert [record.error for record in records[:3]] == [None] * 3
    assert "in UTF-8" in (records[3].error or "")
    assert "1 to 128" in (records[4].error or "")
