#!/bin/sh
# Make `import cv2` work with the Python given as $1. The opencv-python wheel needs the system's libGL and GLib, which a
# bare server or container lacks: install them where we may, otherwise take the wheel that needs no display library.
set -eu
python=$1

"$python" -c 'import cv2' 2>/dev/null && exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo='sudo -n'
if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
    echo 'opencv-python misses a display library: installing libgl1 and libglib2.0-0'
    $sudo apt-get update -qq && $sudo apt-get install -qq -y --no-install-recommends libgl1 libglib2.0-0 >/dev/null || true
fi
if ! "$python" -c 'import cv2' 2>/dev/null; then
    echo 'opencv-python does not import here: replacing it by opencv-python-headless'
    "$python" -m pip uninstall --quiet --yes opencv-python
    "$python" -m pip install --quiet --force-reinstall --no-deps opencv-python-headless
fi
"$python" -c 'import cv2'
