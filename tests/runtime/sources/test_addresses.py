from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources import (
    Camera,
    GenicamCamera,
    HttpTriggered,
    ImageFiles,
    NetworkCamera,
    PipelineCamera,
    PushedImages,
    Source,
    StdinImages,
    StdinTriggered,
    SyntheticCamera,
    SyntheticFrames,
    TriggeredGenicamCamera,
    View,
    WatchedFolder,
    open_source,
)
from simplenet_edge.runtime.sources.options import LIVE_OPTIONS, parse_options


@pytest.mark.parametrize(
    ("uri", "kind", "name"),
    [
        ("0", Camera, "camera-0"),
        ("v4l2:///dev/video2", Camera, "/dev/video2"),
        ("genicam:", GenicamCamera, "genicam"),
        ("genicam:Basler-acA1300 (2)", GenicamCamera, "Basler-acA1300 (2)"),
        ("genicam:192.168.0.7#exposure=auto&gain=-1.5&name=top", GenicamCamera, "top"),
        ("genicam:#camera_trigger=off", GenicamCamera, "genicam"),
        ("genicam:#camera_trigger=Line1", TriggeredGenicamCamera, "genicam"),
        ("genicam:#camera_trigger=software&trigger=stdin", StdinTriggered, "genicam"),
        ("genicam:#trigger=http:8090", HttpTriggered, "genicam"),
        ("csi://0", PipelineCamera, "csi-0"),
        ("gst:videotestsrc ! appsink", PipelineCamera, "gst"),
        ("rtsp://10.0.0.7/ch1", NetworkCamera, "10.0.0.7/ch1"),
        ("rtsps://10.0.0.7/ch1", NetworkCamera, "10.0.0.7/ch1"),
        ("http://10.0.0.7:8080/video.mjpg", NetworkCamera, "10.0.0.7/video.mjpg"),
        ("watch:incoming", WatchedFolder, "incoming"),
        ("watch:incoming?existing=1", WatchedFolder, "incoming"),
        ("push://127.0.0.1:8090", PushedImages, "push"),
        ("-", StdinImages, "stdin"),
        ("test://", SyntheticFrames, "test"),
        ("test://?fps=30&size=64x48&seed=1&defects=0.05&frames=100", SyntheticCamera, "test"),
        ("0#trigger=stdin", StdinTriggered, "camera-0"),
        ("0#trigger=http:8090&name=top", HttpTriggered, "top"),
    ],
)
def test_kinds(uri: str, kind: type[Source], name: str) -> None:
    source = open_source(uri)
    assert type(source) is kind
    assert source.name == name
    assert source.view == View()


def test_live_and_on_demand() -> None:
    found = {
        uri: (open_source(uri).live, open_source(uri).on_demand)
        for uri in ("0", "watch:a", "test://", "test://?fps=1", "push://:0", "-", "0#trigger=stdin")
    }
    assert found == {
        "0": (True, False),
        "watch:a": (False, True),
        "test://": (False, False),
        "test://?fps=1": (True, False),
        "push://:0": (False, True),
        "-": (False, False),
        "0#trigger=stdin": (True, True),
    }


def test_options_of_the_view(tmp_path: Path) -> None:
    source = open_source(f"{tmp_path}#xywh=160,120,320,240&every=2&name=the%20left")
    assert isinstance(source, ImageFiles)
    assert source.view == View((160, 120, 320, 240), 2)
    assert source.name == "the left"


@pytest.mark.parametrize("folder", ["run#1", "a#name=left", "#every=2"])
def test_a_path_with_a_hash_that_exists_is_a_path(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / folder).mkdir()
    assert cv2.imwrite(str(tmp_path / folder / "part.png"), np.zeros((4, 4, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    for uri in (folder, f"{folder}#every=3"):
        with open_source(uri) as source:
            assert source.view.every == (3 if uri != folder else 1)
            assert [record.name for record in source] == ["part.png"]


def test_options_of_live_cameras() -> None:
    options = parse_options("silence=off&frozen=7.5&black=off&trigger=stdin&timeout=3", LIVE_OPTIONS)
    assert (options.silence, options.frozen, options.black, options.timeout) == (math.inf, 7.5, False, 3.0)
    source = open_source("rtsp://camera/1#silence=9&frozen=off&black=off")
    assert isinstance(source, NetworkCamera)
    assert (source.settings.silence_s, source.settings.frozen_s, source.settings.black) == (9.0, math.inf, False)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("0#colour=red", "no option 'colour' here; this source takes black, every, fourcc, fps, frozen, name, "),
        ("{tmp}#fps=30", "no option 'fps' here; this source takes every, name, part, xywh"),
        ("{tmp}#trigger=stdin", "no option 'trigger'"),
        ("rtsp://camera/1#size=10x10", "no option 'size'"),
        ("test://#trigger=stdin", "no option 'trigger'"),
        ("{tmp}#every=0", "every must be at least 1"),
        ("{tmp}#every=1.5", "expected every=2, a whole number, found '1.5'"),
        ("{tmp}#every=2&every=3", "every is given twice"),
        ("{tmp}#xywh=1,2,3", "expected xywh=160,120,320,240 in pixels"),
        ("{tmp}#xywh=1,2,0,4", "xywh must be"),
        ("{tmp}#xywh=-1,2,3,4", "expected xywh="),
        ("{tmp}#name=", "expected name="),
        ("0#size=0x10", "expected size=1920x1080"),
        ("genicam://Basler", "expected genicam: or genicam:CAMERA"),
        ("genicam:#size=640x480", "no option 'size'"),
        ("0#exposure=5000", "no option 'exposure'"),
        ("genicam:#exposure=0", "expected exposure=5000, microseconds, or auto"),
        ("genicam:#exposure=inf", "expected exposure=5000"),
        ("genicam:#gain=high", "expected gain=6, or auto"),
        ("genicam:#gain=nan", "expected gain=6"),
        ("genicam:#format=Mono 8", "expected format=Mono8"),
        ("genicam:#levels=64", "expected levels=64,1023, the values of black and of white"),
        ("genicam:#levels=64,64", "expected levels=64,1023"),
        ("genicam:#levels=-1,64", "expected levels=64,1023"),
        ("genicam:#roi=0,0,0,9", "expected roi=640,400,1280,1024 in pixels"),
        ("genicam:#packet=jumbo", "expected packet=8000, bytes"),
        ("genicam:#camera_trigger=", "expected camera_trigger=software"),
        ("genicam:#camera_trigger=software", "nobody would trigger it; add trigger="),
        (
            "genicam:#camera_trigger=Line1&trigger=stdin",
            "each of its frames is a part, whoever asks; leave trigger= out",
        ),
        ("genicam:#camera_trigger=Line1&every=2", "every=2: each frame is a part; leave it out"),
        ("0#fps=nan", "expected fps=30"),
        ("0#frozen=on", "expected frozen=3, seconds, or off"),
        ("0#black=maybe", "expected black=on or off"),
        ("0#fourcc=MJPEG", "expected fourcc=MJPG"),
        ("0#trigger=stdin&every=2", "each trigger is answered"),
        ("push://:0#every=2", "no option 'every'"),
        ("0#trigger=tcp:1", "expected stdin, http:PORT or a controller"),
        ("0#trigger=s7:plc", "expected an address such as s7:192.168.0.1/DB10"),
        ("0#trigger=s7:plc/DB0", "DB must be from 1 to 65535"),
        ("0#trigger=s7:plc/DB1,slot=1,slot=2", "expected an address such as"),
        ("0#trigger=s7:plc/DB1,start=65300", "start must be from 0 to 65237"),
        ("0#trigger=http:port", "expected an address such as 8080"),
        ("v4l2://video0", "expected v4l2:///dev/videoN"),
        ("csi://front", "expected csi://0"),
        ("rtsp:///path", "expected the address of a camera"),
        ("ftp://host/x", "one of v4l2, csi, rtsp"),
        ("gst:videotestsrc ! autovideosink", "must end in an appsink"),
        ("gst:videotestsrc ! myappsink2", "must end in an appsink"),
        ("push://nowhere", "expected an address such as 8080"),
        ("watch:{tmp}?existing=2", "expected existing=0 or existing=1"),
        ("watch:{tmp}?new=1", "'new=1' is none of existing="),
        ("test://?speed=3", "'speed=3' is none of defects="),
        ("test://?fps=0", "expected numbers such as"),
        ("test://?frames=0", "expected numbers such as"),
        ("test://?size=640", "expected numbers such as"),
        ("test://?size=4x4", "expected a size of 16x16"),
        ("test://?defects=2", "between 0 and 1"),
    ],
)
def test_what_is_no_address(tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(uri.format(tmp=tmp_path))
    assert message in str(caught.value)


def test_a_watched_folder_may_have_a_hash_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a#name=left").mkdir()
    source = open_source(f"watch:{tmp_path}/a#name=left")
    assert source.folder == tmp_path / "a#name=left"
    assert open_source(f"watch:{tmp_path}/a#name=left#name=right").name == "right"


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://user:secret@",
        "rtsp://user:secret@[host/1",
        "rtsp://user:secret#a=b@host/1",
        "rtsp://user:a#secret=b@host/1",
        "ftp://user:secret@host/1",
        "gst:rtspsrc location=rtsp://user:secret@host/1 user-pw=secret",
    ],
)
def test_an_error_holds_no_password(uri: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["watch:{tmp}", "push://:0", "-", "test://?fps=9", "rtsp://x/1", "0#trigger=stdin"])
def test_is_not_iterated_outside_with(tmp_path: Path, uri: str) -> None:
    source = open_source(uri.format(tmp=tmp_path))
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))
