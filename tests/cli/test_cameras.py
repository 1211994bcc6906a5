from __future__ import annotations

import pytest

from simplenet_edge.runtime.sources import listing
from simplenet_edge.runtime.sources.listing import CameraList, ListedCamera
from tests.cli.conftest import Run, output_of
from tests.runtime.sources.gige_camera import ADDRESS, GigeCamera


def test_a_camera_on_the_network_is_listed(run: Run) -> None:
    with GigeCamera("C1"):
        code, out, _ = run("cameras")
        assert code == 0
        assert f"genicam:Aravis-Fake-C1  GigEVision Aravis Fake C1 ({ADDRESS})" in out.splitlines()
        found = output_of(run("cameras", "--json"))
    assert found["problem"] is None
    listed = next(camera for camera in found["cameras"] if camera["serial"] == "C1")
    assert listed["source"] == "genicam:Aravis-Fake-C1"


def test_what_is_missing_is_said_beside_what_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = ListedCamera("v4l2:///dev/video0", "V4L2", "video0", "", "a\x1b[31m webcam", "", "/dev/video0")
    monkeypatch.setattr(listing, "list_cameras", lambda: CameraList([webcam], "no Aravis here"))
    code, out, err = run("cameras")
    assert (code, out) == (0, "v4l2:///dev/video0  V4L2 a\\x1b[31m webcam (/dev/video0)\n")
    assert "no Aravis here" in err
    monkeypatch.setattr(listing, "list_cameras", lambda: CameraList([], None))
    assert "no camera found" in run("cameras")[2]
