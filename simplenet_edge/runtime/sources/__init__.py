"""Where frames come from: folders, videos, cameras, streams, triggers; `open_source` reads the address of each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import urlsplit

from simplenet_edge.errors import ConfigError, SourceError
from simplenet_edge.imaging.decode import IMAGE_SUFFIXES
from simplenet_edge.runtime.controllers import open_controller
from simplenet_edge.runtime.http_server import parse_address
from simplenet_edge.runtime.records import FrameRecord
from simplenet_edge.runtime.sources.base import Source, View
from simplenet_edge.runtime.sources.cameras import Camera, NetworkCamera, PipelineCamera, csi_pipeline
from simplenet_edge.runtime.sources.capture import without_password
from simplenet_edge.runtime.sources.controlled import Controlled
from simplenet_edge.runtime.sources.device import LiveSettings
from simplenet_edge.runtime.sources.files import ImageFiles, VideoFile
from simplenet_edge.runtime.sources.folder_watch import WatchedFolder
from simplenet_edge.runtime.sources.genicam import GenicamCamera, GenicamSettings, TriggeredGenicamCamera
from simplenet_edge.runtime.sources.http import PushedImages
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.runtime.sources.options import (
    CAMERA_OPTIONS,
    COMMON_OPTIONS,
    GENICAM_OPTIONS,
    LIVE_OPTIONS,
    Options,
    parse_options,
    read_query,
    split_options,
)
from simplenet_edge.runtime.sources.stdin import StdinImages
from simplenet_edge.runtime.sources.synthetic import SyntheticCamera, SyntheticFrames, SyntheticParts
from simplenet_edge.runtime.sources.triggered import HttpTriggered, StdinTriggered, Triggered

__all__ = [
    "Camera",
    "Controlled",
    "FrameRecord",
    "GenicamCamera",
    "GenicamSettings",
    "HttpTriggered",
    "ImageFiles",
    "LiveSettings",
    "LiveSource",
    "NetworkCamera",
    "PipelineCamera",
    "PushedImages",
    "Source",
    "StdinImages",
    "StdinTriggered",
    "SyntheticCamera",
    "SyntheticFrames",
    "SyntheticParts",
    "Triggered",
    "TriggeredGenicamCamera",
    "VideoFile",
    "View",
    "WatchedFolder",
    "open_source",
]

_V4L2_OPTIONS = CAMERA_OPTIONS | {"fourcc"}
_SYNTHETIC_QUERY = frozenset({"fps", "size", "seed", "defects", "frames"})


def open_source(uri: str) -> Source:
    """The source that `uri` names, to be entered with `with`.

    A folder (its images, also in subfolders, in natural order), an image file, a video file; a camera as OpenCV's
    number or `v4l2:///dev/video0`, `genicam:` and `genicam:CAMERA`, `csi://0`, `gst:PIPELINE`, `rtsp[s]://` and
    `http[s]://`; `watch:FOLDER`, `watch:FOLDER?existing=1`; `push://HOST:PORT`; `-` for standard input;
    `test://?fps=30&size=640x480&seed=0&defects=0.05&frames=100`. Options follow a `#`: see `Options`. Raises
    SourceError for anything else.
    """
    address, fragment = split_options(uri)
    kind = next((kind for pattern, kind in _KINDS if re.match(pattern, address)), _file)
    return kind(address, fragment)


def _finished(source: Source, options: Options) -> Source:
    source.name = options.name or source.name
    source.view, source.part_from = options.view, options.part
    if options.trigger is None:
        return source
    assert isinstance(source, LiveSource)  # only those take the option
    if options.every != 1:
        raise SourceError(
            f"trigger={options.trigger} and every={options.every}: each trigger is answered; leave one out"
        )
    timeout_s = options.timeout or 2.0
    if options.trigger == "stdin":
        return StdinTriggered(source, timeout_s)
    scheme, _, place = options.trigger.partition(":")
    if scheme == "http":
        return HttpTriggered(source, *_place(place), timeout_s)
    return Controlled(source, open_controller(options.trigger), timeout_s)


def _settings(options: Options) -> LiveSettings:
    return LiveSettings(silence_s=options.silence, frozen_s=options.frozen, black=options.black)


def _place(text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise SourceError(str(error)) from None


def _camera(address: str, fragment: str) -> Source:
    options = parse_options(fragment, _V4L2_OPTIONS)
    device: str | int = int(address) if address.isdecimal() else address.removeprefix("v4l2://")
    if isinstance(device, str) and not device.startswith("/"):
        raise SourceError(f"{address}: expected v4l2:///dev/videoN")
    return _finished(Camera(device, _settings(options), options.size, options.fps, options.fourcc), options)


def _genicam(address: str, fragment: str) -> Source:
    options = parse_options(fragment, GENICAM_OPTIONS)
    camera_id = address.removeprefix("genicam:")
    if camera_id.startswith("//"):
        raise SourceError(f"{address}: expected genicam: or genicam:CAMERA, as simplenet-edge cameras lists it")
    trigger = options.camera_trigger.lower()
    if trigger == "software" and options.trigger is None:
        raise SourceError("camera_trigger=software: nobody would trigger it; add trigger=, e.g. trigger=http:8090")
    if trigger not in ("software", "off") and options.trigger is not None:
        raise SourceError(
            f"camera_trigger={options.camera_trigger}: each of its frames is a part, whoever asks; leave trigger= out"
        )
    if trigger != "off" and options.every != 1:
        raise SourceError(
            f"camera_trigger={options.camera_trigger} and every={options.every}: each frame is a part; leave it out"
        )
    wanted = GenicamSettings(
        exposure_us=options.exposure,
        gain=options.gain,
        pixel_format=options.format,
        levels=options.levels,
        roi_xywh=options.roi,
        fps=options.fps,
        packet_bytes=options.packet,
        trigger=trigger,
    )
    kind = GenicamCamera if trigger == "off" else TriggeredGenicamCamera
    return _finished(kind(camera_id or None, _settings(options), wanted), options)


def _csi(address: str, fragment: str) -> Source:
    options = parse_options(fragment, CAMERA_OPTIONS)
    number = address.removeprefix("csi://")
    if not number.isdecimal():
        raise SourceError(f"{address}: expected csi://0, the number of the sensor")
    pipeline = csi_pipeline(int(number), options.size or (1920, 1080), options.fps or 30.0)
    return _finished(PipelineCamera(f"csi-{number}", pipeline, _settings(options)), options)


def _pipeline(address: str, fragment: str) -> Source:
    options = parse_options(fragment, LIVE_OPTIONS)
    return _finished(PipelineCamera("gst", address.removeprefix("gst:"), _settings(options)), options)


def _network(address: str, fragment: str) -> Source:
    options = parse_options(fragment, LIVE_OPTIONS)
    shown = without_password(address)
    try:
        hostname = urlsplit(shown).hostname
    except ValueError:
        hostname = None
    if not hostname:
        raise SourceError(f"{shown}: expected the address of a camera, e.g. rtsp://192.168.0.10/stream1")
    return _finished(NetworkCamera(address, _settings(options)), options)


def _watched(address: str, fragment: str) -> Source:
    options = parse_options(fragment, COMMON_OPTIONS)
    path, _, query = address.removeprefix("watch:").partition("?")
    existing = read_query(address, query, {"existing"}).get("existing", "0")
    if existing not in ("0", "1"):
        raise SourceError(f"{address}: expected existing=0 or existing=1")
    return _finished(WatchedFolder(Path(path), existing == "1"), options)


def _pushed(address: str, fragment: str) -> Source:
    options = parse_options(fragment, (COMMON_OPTIONS | {"timeout"}) - {"every"})  # each one is answered
    host, port = _place(address.removeprefix("push://"))
    return _finished(PushedImages(host, port, options.timeout or 10.0), options)


def _stdin(address: str, fragment: str) -> Source:
    return _finished(StdinImages(), parse_options(fragment, COMMON_OPTIONS))


def _synthetic(address: str, fragment: str) -> Source:
    query = read_query(address, address.removeprefix("test://").removeprefix("?"), _SYNTHETIC_QUERY)
    try:
        width, _, height = query.get("size", "640x480").partition("x")
        frames = int(query["frames"]) if "frames" in query else None
        size_wh, seed, defects = (
            (int(width), int(height)),
            int(query.get("seed", "0")),
            float(query.get("defects", "0")),
        )
        fps = float(query["fps"]) if "fps" in query else None
        if (fps is not None and not 0 < fps < 1e6) or (frames is not None and frames < 1) or seed < 0:
            raise ValueError
    except ValueError:
        raise SourceError(
            f"{address}: expected numbers such as test://?fps=30&size=640x480&seed=0&defects=0.05&frames=100"
        ) from None
    parts = SyntheticParts(size_wh, seed, defects, frames)
    options = parse_options(fragment, COMMON_OPTIONS if fps is None else LIVE_OPTIONS)
    source = SyntheticFrames(parts) if fps is None else SyntheticCamera(parts, fps, _settings(options))
    return _finished(source, options)


def _file(address: str, fragment: str) -> Source:
    if "://" in address:
        known = "v4l2, csi, rtsp, rtsps, http, https, push, test"
        raise SourceError(f"{without_password(address)}: expected a path, a camera number or one of {known} before ://")
    options = parse_options(fragment, COMMON_OPTIONS)
    path = Path(address)
    if not os.path.exists(path):
        raise SourceError(
            f"{without_password(address)}: no such file or folder; a camera is v4l2:///dev/video0 or a number"
        )
    is_image = path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES
    return _finished(ImageFiles(path) if is_image else VideoFile(path), options)


_KINDS: Collection[tuple[str, Callable[[str, str], Source]]] = (
    (r"[0-9]+$", _camera),
    (r"v4l2://", _camera),
    (r"genicam:", _genicam),
    (r"csi://", _csi),
    (r"gst:", _pipeline),
    (r"(rtsps?|https?)://", _network),
    (r"watch:", _watched),
    (r"push://", _pushed),
    (r"-$", _stdin),
    (r"test://", _synthetic),
)
