"""JPEGs over HTTP, one after another as IP cameras send them (`multipart/x-mixed-replace`), each through the one door.

FFmpeg would conceal a damaged picture; here it is a DataError, and the next one is taken as usual.
"""

from __future__ import annotations

import http.client
import selectors
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import unquote, urlsplit

from simplenet_edge.errors import SourceError
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.imaging.encoded import MAX_IMAGE_BYTES
from simplenet_edge.runtime.sources.capture import without_password
from simplenet_edge.spec import Frames

__all__ = ["MjpegDevice", "open_mjpeg"]

_CHUNK = 1 << 16
_MOST_HEADER_BYTES = 1 << 16
_MOST_OLD = 1000  # images that are passed over in one go


def open_mjpeg(
    url: str, timeout_s: float | None, advice: str, passed_over: Callable[[int], None]
) -> MjpegDevice | None:
    """The camera at an `http[s]://` address; None where it sends something else, such as HLS, which FFmpeg reads.

    User and password in the address are sent as the camera asks for them (Basic or Digest). Certificates are not
    checked: cameras sign their own. `passed_over` is as in `MjpegDevice`. Raises SourceError, with the advice, where
    nobody answers.
    """
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    bare = parts._replace(netloc=place, fragment="").geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=unchecked),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    try:
        response = cast(http.client.HTTPResponse, opener.open(bare, timeout=timeout_s))
    except Exception as error:  # odd answers make the library raise nearly anything
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise SourceError(f"could not open {without_password(f'{url} ({reason})')}; {advice}") from None
    if response.headers.get_content_type() != "multipart/x-mixed-replace":
        response.close()
        return None
    return MjpegDevice(response, passed_over)


class MjpegDevice:
    """An open stream of JPEGs; uint8 `(H, W, 3)` BGR.

    Images that came while nobody read are passed over, and `passed_over` is called with their number: the network
    would keep them, and where decoding is slower than the camera each would be older than the one before.
    """

    def __init__(
        self, response: http.client.HTTPResponse, passed_over: Callable[[int], None] = lambda count: None
    ) -> None:
        self._response = response
        self._passed_over = passed_over
        self._waits = True  # for bytes that have not come yet
        self._is_first = True
        self._parts = _parts(self._chunks())

    def read(self) -> Frames:
        """The next image. Raises SourceError when none comes, DataError for a damaged one."""
        try:
            part = self._next_part()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"it stopped giving frames ({error}); check the camera and its network") from None
        if part is None:
            raise SourceError("it stopped giving frames; check the camera, its cable and its network")
        return decode_image(part)

    def close(self) -> None:
        """Hang up."""
        self._response.close()

    def _next_part(self) -> bytes | None:
        """The first part from now on; at the end of the stream the last one that came, then None."""
        n_old, last = 0, None
        self._waits = self._is_first
        self._is_first = False
        try:
            while not self._waits and n_old < _MOST_OLD and (part := next(self._parts, None)) is not None:
                n_old, last = n_old + 1, part
            self._waits = True
            part = next(self._parts, None)
            if part is None and last is not None:
                n_old, part = n_old - 1, last
            return part
        finally:
            self._passed_over(n_old)

    def _chunks(self) -> Iterator[bytes]:
        """What comes; an empty one where none has come and `read` doesn't wait."""
        while True:
            if not self._waits and not self._has_come():
                yield b""
            elif chunk := self._response.read1(_CHUNK):
                yield chunk
            else:
                return

    def _has_come(self) -> bool:
        """Whether bytes, or the end, are there."""
        if self._response.isclosed():
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self._response, selectors.EVENT_READ)
            return bool(selector.select(0))


def _parts(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """The body of each part, as soon as it is there: as long as its header says, but never beyond the next boundary.

    The boundary is the line that the camera writes; what the response's header says of it is often wrong. None after
    an empty chunk: there is no whole part yet.
    """
    data = bytearray()
    boundary = None
    for chunk in chunks:
        if not chunk:
            yield None
        data += chunk
        while True:
            start = data.find(b"--" if boundary is None else boundary)
            end = data.find(b"\r\n\r\n", max(start, 0))
            if start < 0 or end < 0:
                break
            head = bytes(data[start:end]).split(b"\r\n")
            boundary = head[0].rstrip()
            stop, after = _end_of_part(data, end + 4, head, boundary)
            if stop is None:
                break
            yield bytes(data[end + 4 : stop])
            del data[:after]
        if len(data) > MAX_IMAGE_BYTES + _MOST_HEADER_BYTES:
            raise ValueError(f"a picture of more than {MAX_IMAGE_BYTES >> 20} MiB")


def _end_of_part(data: bytearray, start: int, head: list[bytes], boundary: bytes) -> tuple[int | None, int]:
    """Where a part's body ends and what follows it begins; None while that is still to come."""
    named = dict(line.lower().split(b":", 1) for line in head[1:] if b":" in line)
    length = named.get(b"content-length", b"").strip()
    whole = start + int(length) if length.isdigit() else None
    found = data.find(b"\r\n" + boundary, start, None if whole is None else whole + len(boundary) + 2)
    if found >= 0:
        return found, found + 2
    return (whole, whole) if whole is not None and whole <= len(data) else (None, 0)
