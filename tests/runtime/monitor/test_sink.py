from __future__ import annotations

import dataclasses
import time

import cv2
import numpy as np
import pytest

from simplenet_edge.runtime.monitor import sink as sink_module
from simplenet_edge.runtime.monitor.gallery import Gallery
from simplenet_edge.runtime.monitor.history import History
from simplenet_edge.runtime.monitor.pictures import encode_jpeg
from simplenet_edge.runtime.monitor.sink import MonitorSink
from simplenet_edge.runtime.sources.base import View
from simplenet_edge.spec import Frames
from tests.runtime.monitor.conftest import Make
from tests.waiting import until


def decode(jpeg: bytes | None) -> np.ndarray:
    assert jpeg is not None
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_a_history_gives_what_is_new(make: Make) -> None:
    history = History()
    for i, verdict in enumerate(("OK", "NG", "INVALID")):
        history.add(make(verdict), sequence=i + 1, time_s=100.0 + i)
    points = history.since(0)
    assert [point["verdict"] for point in points] == ["OK", "NG", "INVALID"]
    assert [point["id"] for point in points] == [0, 1, 2]
    assert points[1]["score"] > points[1]["threshold"] > points[0]["score"]
    assert points[2]["score"] is None
    assert history.since(2) == points[2:]
    assert history.since(3) == []


def test_a_history_of_a_fast_line_keeps_the_highest_score_and_every_verdict(make: Make) -> None:
    history = History()
    results = [make("OK"), make("NG"), make("INVALID"), make("OK")]
    for i, result in enumerate(results):
        history.add(result, sequence=i + 1, time_s=100.0 + i * 0.01)
    (point,) = history.since(3)
    assert (point["ok"], point["ng"], point["invalid"], point["verdict"]) == (2, 1, 1, "NG")
    assert results[1].detection is not None
    assert point["score"] == results[1].detection.score


def test_a_history_is_bounded(make: Make) -> None:
    history = History()
    result = make("OK")
    for i in range(4000):
        history.add(result, sequence=i + 1, time_s=float(i))
    points = history.since(0)
    assert len(points) == 3000
    assert points[-1]["id"] == 3999


def test_a_worse_verdict_stays_until_somebody_can_have_seen_it(make: Make) -> None:
    def shown(name: str = "top") -> str:
        return str(sink.history()["cameras"][name]["shown"]["verdict"])

    sink = MonitorSink(hold_s=3600.0)
    sink.write(make("OK"))
    assert shown() == "OK"
    sink.write(make("NG"))
    sink.write(make("INVALID"))
    sink.write(make("OK"))
    assert shown() == "NG"
    assert sink.history(since=4)["cameras"]["top"]["shown"]["sequence"] == 2
    sink.hold_s = 0.0
    assert shown() == "OK"  # although no further result came
    sink.write(make("INVALID"))
    assert shown() == "INVALID"


def test_the_picture_is_of_the_result_that_is_shown(make: Make) -> None:
    sink = MonitorSink(hold_s=0.0, picture_s=0.0)
    assert sink.picture("top") is None
    sink.write(make("OK"))
    good = decode(sink.picture("top"))
    sink.write(make("NG"))
    plain, hot = decode(sink.picture("top", heat=False)), decode(sink.picture("top"))
    assert good.max() < 160
    assert plain[10:14, 20:24].min() > 200
    assert np.abs(plain.astype(int) - hot).max() > 80
    assert sink.picture("top") is sink.picture("top")  # encoded once, however many look
    sink.write(make("INVALID"))
    assert sink.picture("top") is None


def test_only_what_is_asked_for_is_encoded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[float] = []

    def encode(image: Frames) -> bytes:
        encoded.append(time.monotonic())
        return encode_jpeg(image)

    monkeypatch.setattr(sink_module, "encode_jpeg", encode)
    sink = MonitorSink(hold_s=0.0)
    result = make("OK")
    for _ in range(500):
        sink.write(result)
    assert encoded == []
    sink.picture("top")
    sink.write(result)
    sink.picture("top")
    assert len(encoded) == 2
    assert encoded[1] - encoded[0] >= 0.19  # never before its time, so no timing of this machine


def test_the_view_is_cut_out(make: Make) -> None:
    sink = MonitorSink()
    result = make("OK")
    sink.write(dataclasses.replace(result, record=View((8, 4, 20, 16)).crop(result.record)))
    assert decode(sink.picture("top", heat=False)).shape == (16, 20, 3)


def test_the_gallery_keeps_the_newest_of_each_camera_and_verdict_and_counts_the_others(make: Make) -> None:
    gallery = Gallery(size=2)
    for i in range(50):
        gallery.add(make("NG", frame_id=i))
    gallery.add(make("NG", "right", frame_id=7))
    gallery.add(make("OK", frame_id=51))
    gallery.add(make("INVALID", frame_id=52))  # has no image
    unsure = make("NG", frame_id=53)
    gallery.add(dataclasses.replace(unsure, reason="the camera moved", cause="watch"))
    content = gallery.to_dict()
    totals = {(of["camera"], of["verdict"]): of["total"] for of in content["totals"]}
    assert totals == {("top", "NG"): 50, ("right", "NG"): 1, ("top", "INVALID"): 2}
    kept = [(item["camera"], item["verdict"], item["frame_id"]) for item in content["items"]]
    assert kept[:2] == [("top", "INVALID", 53), ("right", "NG", 7)]
    assert len(kept) == 4
    first = content["items"][0]
    assert (first["regions"], first["area_px"], first["reason"]) == (1, 16, "the camera moved")
    hot, plain = decode(gallery.jpeg(first["id"])), decode(gallery.jpeg(first["id"], heat=False))
    assert hot.shape == plain.shape == (32, 48, 3)
    assert np.abs(hot.astype(int) - plain).max() > 80
    assert gallery.jpeg(1) is None

    def is_kept_again() -> bool:
        gallery.add(make("NG", frame_id=99))
        return any(item["frame_id"] == 99 for item in gallery.to_dict()["items"])

    until(is_kept_again)  # the allowance comes back
