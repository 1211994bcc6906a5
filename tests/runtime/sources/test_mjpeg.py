from __future__ import annotations

import base64
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import DataError, SourceError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.runtime.sources import NetworkCamera
from simplenet_edge.runtime.sources.mjpeg import MjpegDevice, _parts, open_mjpeg
from tests.runtime.sources.ip_camera import IMPATIENT, IpCamera, first
from tests.waiting import SOON_S, until

pytestmark = pytest.mark.slow

JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))[1].tobytes()


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize(("mode", "reason"), [("cut", "cut off|damaged"), ("zeros", "16 equal bytes|damaged")])
def test_a_damaged_picture_is_invalid_and_the_camera_stays(mode: str, reason: str, says_length: bool) -> None:
    with IpCamera(says_length=says_length) as camera, NetworkCamera(camera.url, IMPATIENT) as source:
        frames = iter(source)
        assert first(frames, lambda record: record.image is not None).error is None
        camera.mode = mode
        damaged = first(frames, lambda record: record.error is not None)
        assert damaged.image is None
        assert any(word in (damaged.error or "") for word in reason.split("|"))
        assert source.connected
        camera.mode = "noise"
        first(frames, lambda record: record.image is not None)
        assert source.reconnects == 0


def test_user_and_password_of_the_address_are_sent() -> None:
    header = "Basic " + base64.b64encode(b"user:s@cret").decode()
    with IpCamera(authorization=header) as camera:
        with NetworkCamera(camera.url.replace("//", "//user:s%40cret@"), IMPATIENT) as source:
            first(iter(source), lambda record: record.image is not None)
        with pytest.raises(SourceError, match=r"could not open .*\(Unauthorized\)"):
            NetworkCamera(camera.url, IMPATIENT).__enter__()


def part(body: bytes, length: int | None, boundary: bytes = b"--frame") -> bytes:
    named = b"" if length is None else b"Content-Length: %d\r\n" % length
    return boundary + b"\r\nContent-Type: image/jpeg\r\n" + named + b"\r\n" + body + b"\r\n"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 100, 1 << 16])
@pytest.mark.parametrize("boundary", [b"--frame", b"----=_x", b"--"])
def test_parts_with_a_length_are_there_at_once(boundary: bytes, size: int) -> None:
    stream = b"preamble\r\n" + part(JPEG, len(JPEG), boundary) + part(b"two", 3, boundary)
    assert list(_parts(pieces(stream, size))) == [JPEG, b"two"]


@pytest.mark.parametrize("size", [1, 100, 1 << 16])
def test_parts_without_a_length_end_at_the_next_boundary(size: int) -> None:
    stream = part(JPEG, None) + part(JPEG[:500], None) + part(JPEG, None) + b"--frame"
    assert list(_parts(pieces(stream, size))) == [JPEG, JPEG[:500], JPEG]


def test_a_length_that_is_wrong_costs_no_other_picture() -> None:
    stream = part(JPEG[:1000], len(JPEG)) + part(JPEG, len(JPEG)) + part(JPEG, len(JPEG) - 500) + part(JPEG, len(JPEG))
    found = list(_parts(iter([stream])))
    assert [found[0], found[1], found[3]] == [JPEG[:1000], JPEG, JPEG]
    with pytest.raises(DataError):
        decode_image(found[2] or b"")


def test_a_stream_without_an_end_of_its_part_is_given_up() -> None:
    with pytest.raises(ValueError, match="more than 64 MiB"):
        list(_parts(iter(lambda: bytes(1 << 20), None)))


def test_a_device_is_closed_with_its_connection() -> None:
    with IpCamera() as camera:
        source = NetworkCamera(camera.url, IMPATIENT)
        device = source._connect()
        assert isinstance(device, MjpegDevice)
        assert device.read().shape == (48, 64, 3)
        device.close()


@contextmanager
def served(answer: bytes) -> Iterator[str]:
    """An address that gives each client one answer, and then the end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_pictures_that_came_while_nobody_read_are_passed_over_and_counted() -> None:
    """Else each would be older than the one before, where the camera is faster than the decoder."""
    passed_over: list[int] = []
    with IpCamera() as camera:
        device = open_mjpeg(camera.url, SOON_S, "", passed_over.append)
        assert device is not None
        device.read()

        def some_were() -> bool:
            time.sleep(0.1)  # the camera gives fifty a second
            device.read()
            return sum(passed_over) > 0

        until(some_were)
        device.close()


def test_the_last_picture_before_the_end_is_given() -> None:
    pictures = [cv2.imencode(".jpg", np.full((16, 16, 3), 60 * i, np.uint8))[1].tobytes() for i in range(4)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    passed_over: list[int] = []
    with served(head + b"".join(part(picture, len(picture)) for picture in pictures)) as url:
        device = open_mjpeg(url, SOON_S, "", passed_over.append)
        assert device is not None
        levels = [int(device.read().mean()), int(device.read().mean())]
        while levels[-1] != 180:  # as many as had come by then
            levels.append(int(device.read().mean()))
        with pytest.raises(SourceError, match="stopped giving frames"):
            device.read()
        assert len(levels) + sum(passed_over) == 4
        device.close()


# urllib leaves the answer that it stumbles over to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("asks", ["Digest realm=", "Digest qop", "NTLM", "Basic"])
def test_a_camera_that_asks_oddly_for_a_password_is_away_and_no_more(asks: str) -> None:
    answer = f"HTTP/1.1 401 no\r\nWWW-Authenticate: {asks}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with served(answer.encode()) as url, pytest.raises(SourceError, match="could not open"):
        NetworkCamera(url.replace("//", "//user:secret@"), IMPATIENT).__enter__()
