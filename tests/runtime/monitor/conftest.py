"""Real results: frames that a detector on the fake engine has judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.records import FrameRecord, FrameResult, Part, VerdictName
from simplenet_edge.runtime.regions import find_regions
from simplenet_edge.runtime.snapshot import ModelSnapshot, RecipesSnapshot, SinkSnapshot
from simplenet_edge.runtime.status import LineStatus
from simplenet_edge.spec import Frames
from tests.bundles import THRESHOLD, even_frames, with_spot

WHEN = datetime(2026, 3, 1, 12, 30, 15, tzinfo=timezone.utc)

Make = Callable[..., FrameResult]


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with FakeEngine(bundle) as engine:
        yield Detector(engine)


@pytest.fixture
def make(detector: Detector) -> Make:
    """A result of a camera: `make("NG", "top", frame_id=3, at_s=1.0, name="part3.png")`."""

    def make_result(
        verdict: VerdictName,
        camera: str = "top",
        frame_id: int = 0,
        at_s: float = 0.0,
        name: str = "part.png",
        part: Part = Part(),  # noqa: B008 - it is frozen
    ) -> FrameResult:
        good = even_frames(1)
        image: Frames | None = with_spot(good)[0] if verdict == "NG" else good[0]
        if verdict == "INVALID":
            record = FrameRecord(frame_id, name, WHEN, None, "the cable is out", camera, monotonic_s=at_s, part=part)
            return FrameResult(record, detector.bundle_id, THRESHOLD, None, "the cable is out", "source")
        record = FrameRecord(frame_id, name, WHEN, image, None, camera, monotonic_s=at_s, dropped=2, part=part)
        assert image is not None
        detection = detector.inspect(image)
        regions = find_regions(detection.map, THRESHOLD, detection.spec, image.shape[:2])
        result = FrameResult(record, detector.bundle_id, THRESHOLD, detection, regions=regions, latency_ms=8.0)
        assert result.verdict == verdict
        return result

    return make_result


@pytest.fixture
def status(detector: Detector) -> LineStatus:
    """A line that runs, with a live camera `top` and a recorded one with a name made to break pages."""
    status = LineStatus()
    status.add_camera("top", live=True)
    status.add_camera('<img src=x onerror="alert(1)">/2', live=False)
    status.pulse("running")
    model = ModelSnapshot(
        detector.bundle_id, "tiny", "fake", "numpy", "fp32", THRESHOLD, swaps=1, swap_error=None, swap_to="anew"
    )
    recipes = RecipesSnapshot("gear", ("gear", "shaft"), ("gear",), None, {})
    status.put_parts(model, recipes, None, {"line.jsonl": SinkSnapshot(7, 3, 1, "the disk is full")})
    return status
