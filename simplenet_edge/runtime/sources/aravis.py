"""libaravis-0.8 through ctypes, in whichever Python: cameras of GigE Vision and USB3 Vision, as GenICam describes them.

What leaves this module are Python's own values and arrays that nobody else holds. Every call that fails is a
SourceError with the library's words.
"""

from __future__ import annotations

import ctypes
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from simplenet_edge.errors import SourceError
from simplenet_edge.spec import Frames

__all__ = ["AravisCamera", "AravisStream", "Buffer", "FoundCamera", "Statistics", "aravis_cameras"]

_LIBRARY = "libaravis-0.8.so.0"
_BUFFERS = 8
_IMAGE_PAYLOADS = (1, 5)  # an image alone, or with chunks after it
_PAYLOAD_MASK = 0x3FFF  # the bits above say whether chunks follow
_SWAPPED = 2  # G_CONNECT_SWAPPED: a signal's handler gets its own argument first
_CONTINUOUS = 0
_NO_PACKET_SOCKET = 1
_STATUS = {
    1: "it was never filled",
    2: "the rest of it came too late",
    3: "packets are missing",
    4: "its packets are out of order",
    5: "it has another size than the camera said",
    6: "it is not yet complete",
    7: "it was given up",
}


class _Error(ctypes.Structure):
    """GError."""

    _fields_ = (("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p))


_Ints, _Doubles, _Counts = POINTER(c_int), POINTER(c_double), POINTER(c_uint64)

_CAMERA: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "get_payload": (c_uint, ()),
    "set_acquisition_mode": (None, (c_int,)),
    "start_acquisition": (None, ()),
    "stop_acquisition": (None, ()),
    "create_stream": (c_void_p, (c_void_p, c_void_p)),
    "get_pixel_format": (ctypes.c_uint32, ()),
    "set_pixel_format_from_string": (None, (c_char_p,)),
    "dup_available_pixel_formats_as_strings": (c_void_p, (POINTER(c_uint),)),
    "get_sensor_size": (None, (_Ints, _Ints)),
    "get_region": (None, (_Ints, _Ints, _Ints, _Ints)),
    "set_region": (None, (c_int, c_int, c_int, c_int)),
    "is_exposure_time_available": (c_int, ()),
    "is_exposure_auto_available": (c_int, ()),
    "get_exposure_time": (c_double, ()),
    "get_exposure_time_bounds": (None, (_Doubles, _Doubles)),
    "set_exposure_time": (None, (c_double,)),
    "set_exposure_time_auto": (None, (c_int,)),
    "is_gain_available": (c_int, ()),
    "is_gain_auto_available": (c_int, ()),
    "get_gain": (c_double, ()),
    "get_gain_bounds": (None, (_Doubles, _Doubles)),
    "set_gain": (None, (c_double,)),
    "get_gain_auto": (c_int, ()),
    "set_gain_auto": (None, (c_int,)),
    "is_frame_rate_available": (c_int, ()),
    "get_frame_rate": (c_double, ()),
    "get_frame_rate_bounds": (None, (_Doubles, _Doubles)),
    "set_frame_rate": (None, (c_double,)),
    "is_feature_available": (c_int, (c_char_p,)),
    "dup_available_trigger_sources": (c_void_p, (POINTER(c_uint),)),
    "set_trigger": (None, (c_char_p,)),
    "clear_triggers": (None, ()),
    "software_trigger": (None, ()),
    "gv_get_packet_size": (c_uint, ()),
    "gv_set_packet_size": (None, (c_int,)),
}
"""Functions `arv_camera_...`: what they return, and what they take between the camera and the error."""

_OTHERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (c_uint, ()),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_get_device_vendor": (c_char_p, (c_uint,)),
    "arv_get_device_model": (c_char_p, (c_uint,)),
    "arv_get_device_serial_nbr": (c_char_p, (c_uint,)),
    "arv_get_device_protocol": (c_char_p, (c_uint,)),
    "arv_camera_new": (c_void_p, (c_char_p, POINTER(POINTER(_Error)))),
    "arv_camera_get_device": (c_void_p, (c_void_p,)),
    "arv_camera_is_gv_device": (c_int, (c_void_p,)),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_camera_gv_set_stream_options": (None, (c_void_p, c_int)),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_payload_type": (c_int, (c_void_p,)),
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,)),
    "arv_buffer_get_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_get_image_pixel_format": (ctypes.c_uint32, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_try_pop_buffer": (c_void_p, (c_void_p,)),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, c_uint64)),
    "arv_stream_get_statistics": (None, (c_void_p, _Counts, _Counts, _Counts)),
    "arv_gv_stream_get_statistics": (None, (c_void_p, _Counts, _Counts)),
    "g_signal_connect_data": (ctypes.c_ulong, (c_void_p, c_char_p, c_void_p, c_void_p, c_void_p, c_int)),
    "g_atomic_int_inc": (None, (c_void_p,)),
    "g_object_set": (None, (c_void_p, c_char_p, c_int, c_void_p)),  # one integer property, and NULL
    "g_object_unref": (None, (c_void_p,)),
    "g_error_free": (None, (POINTER(_Error),)),
    "g_free": (None, (c_void_p,)),
}

_finding = threading.Lock()  # the list of cameras is the library's, and one for all threads


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """The library, with every function declared. Raises SourceError where it is missing or too old."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise SourceError(
            f"GenICam cameras need Aravis, and {_LIBRARY} does not load ({error}); run: apt-get install libaravis-0.8-0"
        ) from None
    camera = {
        f"arv_camera_{name}": (result, (c_void_p, *arguments, POINTER(POINTER(_Error))))
        for name, (result, arguments) in _CAMERA.items()
    }
    for name, (result, arguments) in (camera | _OTHERS).items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise SourceError(f"{_LIBRARY} here has no {name}; install a newer Aravis 0.8") from None
        function.restype, function.argtypes = result, arguments
    return library


@dataclass(frozen=True)
class FoundCamera:
    """A camera as the library lists it. `address` is an IP address, or the place on the USB."""

    id: str
    vendor: str
    model: str
    serial: str
    address: str
    protocol: str  # GigEVision or USB3Vision


def aravis_cameras() -> list[FoundCamera]:
    """The cameras that answer; takes about a second. Raises SourceError where the library is missing."""
    library = _library()
    with _finding:
        library.arv_update_device_list()
        names = ("id", "vendor", "model", "serial_nbr", "address", "protocol")
        told = [
            [_text(getattr(library, f"arv_get_device_{name}")(i)) for name in names]
            for i in range(library.arv_get_n_devices())
        ]
    return [FoundCamera(*texts) for texts in sorted(told)]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _check(error: Any) -> None:
    """Raise what a call has left in its GError, if anything."""
    if error:
        message = _text(error.contents.message)
        _library().g_error_free(error)
        raise SourceError(message)


class AravisCamera:
    """A camera under this process's control, by its id, its IP address, or the first that is found.

    Raises SourceError where there is none, or where somebody else controls it.
    """

    def __init__(self, camera_id: str | None = None) -> None:
        self._library = library = _library()
        error = POINTER(_Error)()
        with _finding:
            self._camera = library.arv_camera_new(None if camera_id is None else camera_id.encode(), byref(error))
        _check(error)
        self.is_gige = bool(library.arv_camera_is_gv_device(self._camera))
        device = library.arv_camera_get_device(self._camera)
        if self.is_gige and not library.arv_gv_device_is_controller(device):
            self.close()
            raise SourceError("another program controls it, such as a viewer or another line; close that")
        self._lost = c_int(0)
        # GLib's own function counts up, from the library's thread, so that no Python runs there.
        library.g_signal_connect_data(
            device,
            b"control-lost",
            ctypes.cast(library.g_atomic_int_inc, c_void_p),
            ctypes.addressof(self._lost),
            None,
            _SWAPPED,
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        """`arv_camera_NAME` with these arguments. Raises SourceError with the library's words."""
        error = POINTER(_Error)()
        answer = getattr(self._library, f"arv_camera_{name}")(self._camera, *arguments, byref(error))
        _check(error)
        return answer

    @property
    def is_lost(self) -> bool:
        """Whether it no longer answers, or no longer obeys."""
        return self._lost.value > 0

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """What a function gives through pointers to `count` integers."""
        values = [c_int() for _ in range(count)]
        self.ask(name, *(byref(value) for value in values))
        return tuple(value.value for value in values)

    def bounds(self, name: str) -> tuple[float, float]:
        """The least and the greatest value of `exposure_time`, `gain` or `frame_rate`."""
        least, greatest = c_double(), c_double()
        self.ask(f"get_{name}_bounds", byref(least), byref(greatest))
        return least.value, greatest.value

    def names(self, what: str) -> list[str]:
        """The names of which a setting takes one: `pixel_formats_as_strings` or `trigger_sources`."""
        count = c_uint()
        listed = self.ask(f"dup_available_{what}", byref(count))
        try:
            texts = ctypes.cast(listed, POINTER(c_char_p))
            return [_text(texts[i]) for i in range(count.value)]
        finally:
            self._library.g_free(listed)

    def start(self) -> AravisStream:
        """Let it send frames until it is closed."""
        payload = self.ask("get_payload")
        if self.is_gige:  # root alone may open a packet socket; with this, frames come in the same way for everybody
            self._library.arv_camera_gv_set_stream_options(self._camera, _NO_PACKET_SOCKET)
        stream = AravisStream(self._library, self.ask("create_stream", None, None), payload, self.is_gige)
        try:
            self.ask("set_acquisition_mode", _CONTINUOUS)
            self.ask("start_acquisition")
        except SourceError:
            stream.close()
            raise
        return stream

    def close(self) -> None:
        """Give it back. A stream is closed before."""
        self._library.g_object_unref(self._camera)


@dataclass(frozen=True)
class Buffer:
    """What came of one frame. `fault` says why it is not whole; `data` then is empty, otherwise uint8, flat."""

    taken_s: float  # `time.monotonic` when it was taken
    frame_id: int | None  # None where the packet that says it is missing
    time_ns: int | None  # by the camera's clock
    fault: str | None
    data: Frames
    pixel_format: int  # as PFNC (the Pixel Format Naming Convention of GenICam) numbers it
    size_wh: tuple[int, int]


@dataclass(frozen=True)
class Statistics:
    """Counts since the stream began. Packets are those of GigE Vision; 0 on USB."""

    complete: int
    incomplete: int
    underruns: int  # frames for which no buffer was free
    resent_packets: int
    missing_packets: int


class AravisStream:
    """The frames of a camera, into buffers of its own."""

    def __init__(self, library: ctypes.CDLL, stream: int, payload: int, is_gige: bool) -> None:
        self._library, self._stream, self._is_gige = library, stream, is_gige
        if is_gige:  # the system grants at most net.core.rmem_max
            library.g_object_set(stream, b"socket-buffer-size", min(_BUFFERS * payload, 2**30), None)
        for _ in range(_BUFFERS):
            library.arv_stream_push_buffer(stream, library.arv_buffer_new_allocate(payload))

    def take(self, timeout_s: float, newest: bool) -> Buffer | None:
        """The next frame, or of those that wait the newest; None where none comes in time."""
        library, stream = self._library, self._stream
        found = library.arv_stream_timeout_pop_buffer(stream, round(timeout_s * 1e6))
        while found and newest and (newer := library.arv_stream_try_pop_buffer(stream)):
            library.arv_stream_push_buffer(stream, found)
            found = newer
        if not found:
            return None
        try:
            return self._read(found, time.monotonic())
        finally:
            library.arv_stream_push_buffer(stream, found)

    def _read(self, buffer: int, taken_s: float) -> Buffer:
        library = self._library
        frame_id, time_ns = library.arv_buffer_get_frame_id(buffer), library.arv_buffer_get_timestamp(buffer)
        status = library.arv_buffer_get_status(buffer)
        payload = library.arv_buffer_get_payload_type(buffer)
        fault = None
        if status != 0:
            fault = _STATUS.get(status, f"Aravis calls it status {status}")
        elif payload & _PAYLOAD_MASK not in _IMAGE_PAYLOADS:
            fault = f"it is no plain image but payload {payload:#x}"
        if fault is not None:
            is_named = bool(frame_id or time_ns)
            empty = np.empty(0, np.uint8)
            return Buffer(
                taken_s, frame_id if is_named else None, time_ns if is_named else None, fault, empty, 0, (0, 0)
            )
        size = c_size_t()
        address = library.arv_buffer_get_data(buffer, byref(size))
        data = np.frombuffer(ctypes.string_at(address, size.value), np.uint8)
        size_wh = library.arv_buffer_get_image_width(buffer), library.arv_buffer_get_image_height(buffer)
        pixel_format = library.arv_buffer_get_image_pixel_format(buffer)
        return Buffer(taken_s, frame_id, time_ns, None, data, pixel_format, size_wh)

    def statistics(self) -> Statistics:
        """Counts since the stream began."""
        counts = [c_uint64() for _ in range(5)]
        self._library.arv_stream_get_statistics(self._stream, *(byref(count) for count in counts[:3]))
        if self._is_gige:
            self._library.arv_gv_stream_get_statistics(self._stream, *(byref(count) for count in counts[3:]))
        return Statistics(*(count.value for count in counts))

    def close(self) -> None:
        """Free it, with its buffers."""
        self._library.g_object_unref(self._stream)
