from __future__ import annotations

import time

import numpy as np

from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources import open_source
from tests.waiting import until


def records_of(uri: str) -> list[FrameRecord]:
    with open_source(uri) as source:
        return list(source)


def test_the_same_parts_for_the_same_seed() -> None:
    uri = "test://?size=64x48&seed={}&frames=4&defects=0.5"
    found, again, other = (records_of(uri.format(seed)) for seed in (1, 1, 2))
    assert [record.name for record in found] == [record.name for record in again]
    for a, b, c in zip(found, again, other, strict=True):
        assert a.image is not None
        assert b.image is not None
        assert c.image is not None
        assert a.image.shape == (48, 64, 3)
        assert a.image.dtype == np.uint8
        np.testing.assert_array_equal(a.image, b.image)
        assert not np.array_equal(a.image, c.image)


def test_names_tell_which_parts_have_a_spot() -> None:
    records = records_of("test://?size=64x48&frames=200&defects=0.2#name=belt")
    spotted = [record for record in records if record.name.endswith("-defect")]
    assert 20 < len(spotted) < 60
    for record in records:
        assert record.name.startswith(f"belt#{record.frame_id}")
        assert record.image is not None
        assert (record.image.min() < 30) == record.name.endswith("-defect")


def test_no_two_frames_are_the_same() -> None:
    images = [record.image for record in records_of("test://?size=64x48&frames=20")]
    assert len({image.tobytes() for image in images if image is not None}) == 20


def test_a_live_one_drops_what_nobody_takes_and_ends() -> None:
    with open_source("test://?size=64x48&fps=200&frames=40") as source:
        frames = iter(source)
        next(frames)
        until(lambda: source.dropped > 3)  # type: ignore[attr-defined]
        rest = list(frames)
    assert rest[-1].frame_id == 39
    assert rest[-1].dropped + len(rest) + 1 == 40


def test_a_live_one_keeps_its_pace() -> None:
    started_s = time.monotonic()
    with open_source("test://?size=64x48&fps=50&frames=11") as source:
        list(source)
    assert time.monotonic() - started_s >= 0.2  # never faster; how much slower, the machine decides
