"""GStreamer pipelines, in the system's Python: its OpenCV has GStreamer, and pip's has not."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.sources.rtsp_camera import SYSTEM_PYTHON, RtspCamera, system_python

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[3]
_NEEDED = f"""
import sys, cv2
assert sys.version_info[:2] == {sys.version_info[:2]}, "the system has another Python than the tests"
assert any("GStreamer" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()), "no GStreamer"
"""
_PROGRAM = """
import json, sys
from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import open_source

seen = []
try:
    with open_source(sys.argv[1]) as source:
        for record in source.frames():
            image = record.image
            seen.append([record.frame_id, record.error, None if image is None else [*image.shape, int(image.mean())]])
            if len(seen) == 5:
                break
except SourceError as error:
    seen.append(str(error))
print(json.dumps(seen))
"""


def seen(tmp_path: Path, address: str) -> list[list[object]]:
    """Five records of a source as the system's Python reads it: frame id, error, and shape and mean of the image."""
    system_python(_NEEDED, "OpenCV with GStreamer (python3-opencv)")
    spec = importlib.util.find_spec("simplejpeg")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent  # all that the runtime needs and the system's Python lacks
    (tmp_path / package.name).symlink_to(package)
    path = os.pathsep.join([str(_ROOT), str(tmp_path)])
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", _PROGRAM, address], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    records: list[list[object]] = json.loads(done.stdout)
    return records


_END = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def test_frames_of_a_pipeline(tmp_path: Path) -> None:
    source = "videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=48,framerate=30/1"
    records = seen(tmp_path, f"gst:{source} ! {_END}")
    assert [record[1] for record in records] == [None] * 5
    assert all(image[:3] == [48, 64, 3] and 100 < image[3] < 150 for _, _, image in records)  # type: ignore[index]


def test_a_pipeline_that_ends_is_away(tmp_path: Path) -> None:
    records = seen(tmp_path, f"gst:videotestsrc num-buffers=3 pattern=snow ! video/x-raw,width=64,height=48 ! {_END}")
    assert any("the camera is away: it stopped giving frames" in str(record[1]) for record in records)


def test_a_pipeline_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    (error,) = seen(tmp_path, "gst:nosuchsrc ! appsink")
    assert "could not open cv2.VideoCapture('nosuchsrc ! appsink', cv2.CAP_GSTREAMER); try the pipeline" in str(error)


def test_h264_over_rtsp_by_gstreamer_and_by_the_systems_ffmpeg(tmp_path: Path) -> None:
    decode = "rtph264depay ! h264parse ! avdec_h264" if _has("avdec_h264") else "rtph264depay ! h264parse ! openh264dec"
    with RtspCamera() as camera:
        for i, address in enumerate(
            (camera.url, f"gst:rtspsrc location={camera.url} latency=0 protocols=tcp ! {decode} ! {_END}")
        ):
            (tmp_path / str(i)).mkdir()
            records = seen(tmp_path / str(i), address)
            assert [record[1] for record in records] == [None] * 5
            assert all(image[:3] == [64, 256, 3] for _, _, image in records)  # type: ignore[index]


def _has(element: str) -> bool:
    program = f"import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None); \
assert Gst.ElementFactory.find({element!r})"
    return subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True).returncode == 0
