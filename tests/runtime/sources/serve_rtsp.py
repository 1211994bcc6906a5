"""An RTSP camera: H.264, with the time in the picture. For the system's Python, which has GStreamer:

/usr/bin/python3 serve_rtsp.py PORT FRAMES_PER_SECOND LOST_PER_THOUSAND

256x64 pixels: 32 blocks from left to right, white for 1 and dark grey for 0, the highest bit first, are the
milliseconds of the monotonic clock at which the frame was drawn.
"""

import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BITS, BLOCK, HEIGHT = 32, 8, 64


def frame() -> bytes:
    """The time as a grey picture."""
    now_ms = int(time.monotonic() * 1000) % 2**BITS
    return b"".join((b"\xf0" if now_ms >> i & 1 else b"\x30") * BLOCK for i in reversed(range(BITS))) * HEIGHT


class Camera(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """Draws a frame whenever its time has come."""

    def __init__(self, fps: int, lost: int) -> None:
        super().__init__()
        self.period_s = 1 / fps
        self.next_s = 0.0
        encoder = (
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10"
            if Gst.ElementFactory.find("x264enc")
            else "openh264enc gop-size=10"
        )
        payloader = "rtph264pay pt=96 name="
        self.pipeline = (
            f"( appsrc name=source is-live=true do-timestamp=true format=time caps=video/x-raw,format=GRAY8,"
            f"width={BITS * BLOCK},height={HEIGHT},framerate={fps}/1 ! videoconvert ! video/x-raw,format=I420 ! "
            f"{encoder} ! h264parse config-interval=-1 ! "
            + (f"{payloader}rtp ! identity name=pay0 drop-probability={lost / 1000}" if lost else f"{payloader}pay0")
            + " )"
        )
        self.set_shared(True)
        if lost:
            self.set_protocols(GstRtsp.RTSPLowerTrans.UDP)

    def do_create_element(self, url: object) -> object:
        return Gst.parse_launch(self.pipeline)

    def do_configure(self, media: object) -> None:
        media.get_element().get_by_name("source").connect("need-data", self.draw)  # type: ignore[attr-defined]

    def draw(self, source: object, length: int) -> None:
        time.sleep(max(0.0, self.next_s - time.monotonic()))
        self.next_s = max(self.next_s, time.monotonic()) + self.period_s
        source.emit("push-buffer", Gst.Buffer.new_wrapped(frame()))  # type: ignore[attr-defined]


def main(port: str, fps: str, lost: str) -> None:
    """Serve until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/line", Camera(int(fps), int(lost)))
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
