"""Which cameras this machine has, as sources name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.sources.aravis import aravis_cameras

__all__ = ["CameraList", "ListedCamera", "list_cameras"]

_NAMES = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class ListedCamera:
    """A camera; what isn't known is empty. `source` is what `run` takes."""

    source: str
    kind: str  # GigEVision, USB3Vision or V4L2
    id: str
    vendor: str
    model: str
    serial: str
    address: str  # an IP address, a place on the USB, or a device file


@dataclass(frozen=True)
class CameraList:
    """What was found, and in `problem` why GenICam cameras could not be looked for."""

    cameras: list[ListedCamera]
    problem: str | None


def list_cameras(devices: Path = Path("/dev")) -> CameraList:
    """The GenICam cameras that answer within a second, and the V4L2 devices, of which some give no pictures."""
    problem = None
    cameras = []
    try:
        cameras = [
            ListedCamera(
                f"genicam:{found.id}", found.protocol, found.id, found.vendor, found.model, found.serial, found.address
            )
            for found in aravis_cameras()
        ]
    except SourceError as error:
        problem = str(error)
    videos = (path for path in devices.glob("video*") if re.fullmatch(r"video\d+", path.name))
    for path in sorted(videos, key=lambda path: int(path.name.removeprefix("video"))):
        cameras.append(ListedCamera(f"v4l2://{path}", "V4L2", path.name, "", _v4l2_name(path.name), "", str(path)))
    return CameraList(cameras, problem)


def _v4l2_name(device: str) -> str:
    try:
        return (_NAMES / device / "name").read_text(errors="replace").strip()
    except OSError:
        return ""
