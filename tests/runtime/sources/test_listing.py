from __future__ import annotations

from pathlib import Path

import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import listing
from simplenet_edge.runtime.sources.listing import ListedCamera, list_cameras
from tests.runtime.sources.gige_camera import ADDRESS, GigeCamera


def test_a_camera_on_the_network_is_listed_as_a_source_names_it() -> None:
    with GigeCamera("L1"):
        found = list_cameras()
    assert found.problem is None
    assert ListedCamera("genicam:Aravis-Fake-L1", "GigEVision", "Aravis-Fake-L1", "Aravis", "Fake", "L1", ADDRESS) in (
        found.cameras
    )


def test_without_the_library_the_rest_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SourceError("no Aravis here")

    monkeypatch.setattr(listing, "aravis_cameras", refuse)
    for name in ("video10", "video2", "videocodec", "null"):
        (tmp_path / name).touch()
    found = list_cameras(tmp_path)
    assert found.problem == "no Aravis here"
    assert [camera.source for camera in found.cameras] == [f"v4l2://{tmp_path}/video2", f"v4l2://{tmp_path}/video10"]
    assert {camera.kind for camera in found.cameras} == {"V4L2"}
