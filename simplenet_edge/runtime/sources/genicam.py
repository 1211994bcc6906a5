"""GenICam cameras (GigE Vision, USB3 Vision) as live sources, through Aravis."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.raw_pixels import bits_of, format_name, raw_to_bgr
from simplenet_edge.runtime.sources.aravis import AravisCamera, AravisStream, Buffer, aravis_cameras
from simplenet_edge.runtime.sources.device import Device, EndOfFrames, LiveSettings, Shot
from simplenet_edge.runtime.sources.live import LiveSource
from simplenet_edge.spec import Frames

__all__ = ["GenicamCamera", "GenicamSettings", "TriggeredGenicamCamera"]

_log = logging.getLogger(__name__)

_TICK_S = 0.1  # how often a wait looks up
_SLACK = 0.05  # cameras round: exposures go in lines of the sensor, rates in ticks of its clock
_CONTINUOUSLY, _NEVER = 2, 0  # ArvAuto
_LARGEST_GAP = 1000  # frames; above that the camera has begun to count anew
_LARGEST_16_BIT = 65535  # GigE Vision 1 counts from 1 to this


@dataclass(frozen=True)
class GenicamSettings:
    """What a camera is told each time that it is opened. What is None stays as the camera has it."""

    exposure_us: float | Literal["auto"] | None = None
    gain: float | Literal["auto"] | None = None  # mostly decibels: the unit is the camera's
    pixel_format: str | None = None  # as the camera names it, e.g. Mono8
    levels: tuple[int, int] | None = None  # the values that become 0 and 255; all that the format has, where None
    roi_xywh: tuple[int, int, int, int] | None = None  # the part of the sensor that is read, in pixels
    fps: float | None = None
    packet_bytes: int | None = None  # of GigE Vision, with its headers
    trigger: str = "off"  # "off": it runs free; "software"; or the input that starts an exposure, e.g. Line1


class GenicamCamera(LiveSource):
    """A camera by its id, as `simplenet-edge cameras` lists it, or its IP address; the first one where None."""

    def __init__(
        self, camera_id: str | None = None, settings: LiveSettings | None = None, wanted: GenicamSettings | None = None
    ) -> None:
        super().__init__(camera_id or "genicam", settings)
        self._camera_id = camera_id
        self._wanted = wanted or GenicamSettings()

    def _connect(self) -> GenicamDevice:
        try:
            camera = AravisCamera(self._camera_id)
        except SourceError as error:
            found = ", ".join(camera.id for camera in aravis_cameras()) or "none"
            named = "" if self._camera_id is None else f" {self._camera_id}"
            raise SourceError(
                f"no GenICam camera{named} to be had ({error}); found: {found}; check its power and cable, and that "
                "its IP address is in the subnet of this machine's network card"
            ) from None
        try:
            _choose(camera, self._wanted)
            name = format_name(camera.ask("get_pixel_format"))
            greatest = 2 ** bits_of(name) - 1
            if self._wanted.levels is not None and self._wanted.levels[1] > greatest:
                raise SourceError(f"levels={_joined(self._wanted.levels)}: {name} ends at {greatest}")
            return GenicamDevice(self, camera, camera.start(), self._wanted)
        except (SourceError, DataError) as error:
            camera.close()
            raise SourceError(f"{self.name}: {error}") from None

    def _shot(self, device: Device) -> Shot:
        assert isinstance(device, GenicamDevice)
        return device.shot


class TriggeredGenicamCamera(GenicamCamera):
    """A camera that exposes when it is triggered, on one of its inputs or by `request_frame`: each frame is a part."""

    on_demand: ClassVar[bool] = True

    def __init__(self, camera_id: str | None, settings: LiveSettings, wanted: GenicamSettings) -> None:
        super().__init__(camera_id, replace(settings, silence_s=math.inf), wanted)
        self.answer_s = settings.silence_s
        self.requested = threading.Event()

    def request_frame(self) -> None:
        """Trigger the camera, if that is how it is triggered; from any thread."""
        self.requested.set()


class GenicamDevice:
    """An open camera that sends frames."""

    def __init__(
        self, source: GenicamCamera, camera: AravisCamera, stream: AravisStream, wanted: GenicamSettings
    ) -> None:
        self.shot = Shot()
        self._source, self._camera, self._stream, self._wanted = source, camera, stream, wanted
        self._each_counts = source.on_demand
        self._last_id: int | None = None
        self._unnamed = 0  # frames since then that came without their number
        self._ahead: Buffer | None = None  # the frame that came after the missing ones
        self._missing = 0
        self._taken_s = time.monotonic()  # the frame before

    def read(self) -> Frames:
        """The next image.

        Raises SourceError where none comes or the camera is lost, DataError for an incomplete one and, where each frame
        is a part, for each that never came.
        """
        self.shot = Shot()
        buffer = self._ahead or self._take()
        if self._missing:
            self._ahead = buffer
            self._missing -= 1
            raise DataError(f"a frame of the camera never came; {self._network()}")
        self._ahead = None
        self.shot = replace(self.shot, frame_id=buffer.frame_id, time_ns=buffer.time_ns)
        if buffer.fault is not None:
            raise DataError(f"the frame is not whole: {buffer.fault}; {self._network()}")
        return raw_to_bgr(buffer.data, format_name(buffer.pixel_format), buffer.size_wh, self._wanted.levels)

    def _take(self) -> Buffer:
        source = self._source
        silence_s = source.settings.silence_s
        self.shot = Shot(began_s=self._taken_s)  # a frame that waits already has come since then
        if isinstance(source, TriggeredGenicamCamera) and self._wanted.trigger == "software":
            while not source.requested.wait(_TICK_S):
                self._look_up()
            source.requested.clear()
            self.shot = Shot(began_s=time.monotonic())
            self._camera.ask("software_trigger")
            silence_s = source.answer_s
        end_s = time.monotonic() + silence_s
        while (buffer := self._stream.take(_TICK_S, newest=not self._each_counts)) is None:
            self._look_up()
            if time.monotonic() > end_s:
                raise SourceError(f"no frame within {silence_s:g} s; check the camera, its cable and its trigger")
        self._taken_s = buffer.taken_s
        self._count(buffer.frame_id)
        return buffer

    def _look_up(self) -> None:
        if self._source.stopping.is_set():
            raise EndOfFrames
        if self._camera.is_lost:
            raise SourceError("it doesn't answer any more; check its power, its cable and its network")

    def _count(self, frame_id: int | None) -> None:
        """Find out from the camera's own count how many frames are missing."""
        if frame_id is None:
            self._unnamed += 1
            return
        last_id, unnamed = self._last_id, self._unnamed
        self._last_id, self._unnamed = frame_id, 0
        if last_id is None:
            return
        step = frame_id - last_id
        if step < 0 and last_id <= _LARGEST_16_BIT:
            step += _LARGEST_16_BIT
        missing = step - 1 - unnamed
        if not 0 < missing < _LARGEST_GAP:
            return
        if self._each_counts:
            self._missing = missing
        else:
            self._source._passed_over(missing)

    def _network(self) -> str:
        counts = self._stream.statistics()
        return (
            f"since it was opened {counts.incomplete} frames were incomplete, {counts.missing_packets} packets missing "
            f"and {counts.underruns} frames without a buffer; check cable, network card, packet= and net.core.rmem_max"
        )

    def close(self) -> None:
        """Let it stop, and give it back."""
        try:
            if not self._camera.is_lost:
                self._camera.ask("stop_acquisition")
        except SourceError as error:
            _log.warning("%s: %s", self._source.name, error)
        counts = self._stream.statistics()
        _log.info(
            "%s closed: %d frames complete, %d incomplete, %d without a buffer; %d packets sent again, %d missing",
            self._source.name,
            counts.complete,
            counts.incomplete,
            counts.underruns,
            counts.resent_packets,
            counts.missing_packets,
        )
        self._stream.close()
        self._camera.close()


def _choose(camera: AravisCamera, wanted: GenicamSettings) -> None:
    """Set it up. Raises SourceError, with what the camera offers, where it takes anything else than what is wanted."""
    if wanted.pixel_format is not None:
        name = _one_of(camera.names("pixel_formats_as_strings"), wanted.pixel_format, "format")
        camera.ask("set_pixel_format_from_string", name.encode())
    if wanted.roi_xywh is not None:
        _choose_roi(camera, wanted.roi_xywh)
    if wanted.exposure_us is not None:
        _choose_number(camera, "exposure_time", "exposure", wanted.exposure_us)
    if wanted.gain is not None:
        _choose_number(camera, "gain", "gain", wanted.gain)
    if wanted.fps is not None:
        _choose_number(camera, "frame_rate", "fps", wanted.fps)
    if wanted.packet_bytes is not None:
        if not camera.is_gige:
            raise SourceError("packet= is for GigE Vision; leave it out")
        camera.ask("gv_set_packet_size", wanted.packet_bytes)
        _same("packet", wanted.packet_bytes, camera.ask("gv_get_packet_size"))
    if wanted.trigger != "off":
        source = _one_of(camera.names("trigger_sources"), wanted.trigger, "camera_trigger")
        camera.ask("set_trigger", source.encode())
    elif camera.ask("is_feature_available", b"TriggerMode"):
        camera.ask("clear_triggers")


def _one_of(names: list[str], wanted: str, option: str) -> str:
    for name in names:
        if name.lower() == wanted.lower():
            return name
    raise SourceError(f"{option}={wanted}: it has {', '.join(sorted(names)) or 'none'}")


def _choose_roi(camera: AravisCamera, wanted: tuple[int, int, int, int]) -> None:
    sensor_wh = camera.integers("get_sensor_size", 2)
    error = f"roi={_joined(wanted)}: the sensor has {sensor_wh[0]}x{sensor_wh[1]} pixels"
    if wanted[0] + wanted[2] > sensor_wh[0] or wanted[1] + wanted[3] > sensor_wh[1]:
        raise SourceError(error)
    camera.ask("set_region", *wanted)
    found = camera.integers("get_region", 4)
    if found != wanted:
        raise SourceError(f"{error}, and it gives {_joined(found)}; choose that, or a region in steps that it has")


def _choose_number(camera: AravisCamera, name: str, option: str, wanted: float | Literal["auto"]) -> None:
    if not camera.ask(f"is_{name}_available"):
        raise SourceError(f"{option}={wanted}: it has none to choose; leave it out")
    if name != "frame_rate":
        has_auto = camera.ask(f"is_{option}_auto_available")
        if wanted == "auto" and not has_auto:
            raise SourceError(f"{option}=auto: it has no automatic one; give a number")
        if has_auto:
            camera.ask(f"set_{name}_auto", _CONTINUOUSLY if wanted == "auto" else _NEVER)
    if wanted == "auto":
        return
    least, greatest = camera.bounds(name)
    if not least <= wanted <= greatest:
        raise SourceError(f"{option}={wanted:g}: it takes {least:g} to {greatest:g}")
    camera.ask(f"set_{name}", wanted)
    _same(option, wanted, camera.ask(f"get_{name}"))


def _same(option: str, wanted: float, found: float) -> None:
    if abs(found - wanted) > _SLACK * abs(wanted):
        raise SourceError(f"{option}={wanted:g}: it takes {found:g} instead; choose that, or one nearer to what it has")


def _joined(numbers: tuple[int, ...]) -> str:
    return ",".join(str(number) for number in numbers)
