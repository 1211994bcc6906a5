#!/bin/sh
# Make what some tests talk to available: mosquitto (an MQTT broker), chromium (for the monitor page), Aravis with its
# GigE Vision camera, GStreamer with its RTSP server and an H.264 encoder, and an OpenCV with GStreamer. Installs them
# where we may; otherwise says what is missing and goes on: the tests that need it are then skipped, with the reason.
set -eu

# Debian keeps daemons in a folder that isn't on every user's path.
PATH="$PATH:/usr/sbin:/usr/local/sbin"

system_imports() { /usr/bin/python3 -c "$1" 2>/dev/null; }

missing_packages() {
    command -v mosquitto >/dev/null || printf ' mosquitto'
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        printf ' chromium'
    command -v arv-fake-gv-camera-0.8 >/dev/null || printf ' aravis-tools'
    system_imports 'import gi; gi.require_version("GstRtspServer", "1.0")' ||
        printf ' python3-gi gir1.2-gst-rtsp-server-1.0'
    system_imports 'import gi; gi.require_version("Gst", "1.0"); from gi.repository import Gst; Gst.init(None)
assert all(map(Gst.ElementFactory.find, ("x264enc", "h264parse", "rtph264pay", "videotestsrc", "avdec_h264")))' ||
        printf ' gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav'
    system_imports 'import cv2' || printf ' python3-opencv'
}

missing=$(missing_packages)
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo='sudo -n'
if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo "for the tests: installing$missing"
    $sudo apt-get update -qq || true
    for package in $missing; do # one by one: what this system doesn't have must not keep back the others
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null || true
    done
fi
missing=$(missing_packages)
[ -z "$missing" ] || echo "for the tests:$missing can't be installed here; the tests that need it are skipped"
