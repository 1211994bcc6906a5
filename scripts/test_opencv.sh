#!/bin/sh
# Run the tests with another OpenCV than pip's newest, in an environment of their own:
#   sh scripts/test_opencv.sh oldest [pytest's arguments]    OpenCV 4.5.4 and numpy 1.21, as Ubuntu 22.04 has them
#   sh scripts/test_opencv.sh system [pytest's arguments]    the distribution's python3-opencv, which has GStreamer
# PYTHON is what the environment is made with: 3.10 for `oldest`, the distribution's own for `system`.
set -eu
which=$1
shift
venv=${VENV:-.venv-opencv-$which}
case $which in
oldest) python=${PYTHON:-python3.10} options= numpy='numpy==1.21.6' ;;
system) python=${PYTHON:-/usr/bin/python3} options=--system-site-packages numpy='numpy<2' ;;
*) echo "expected oldest or system, found $which" >&2 && exit 2 ;;
esac

if [ ! -f "$venv/.ready" ]; then
    "$python" -m venv $options "$venv"
    "$venv/bin/python" -m pip install --quiet --upgrade pip
    "$venv/bin/python" -m pip install --quiet -e '.[dev]' "$numpy"
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    [ "$which" = system ] || "$venv/bin/python" -m pip install --quiet --no-deps opencv-python-headless==4.5.4.60
    touch "$venv/.ready"
fi
"$venv/bin/python" -c 'import cv2, numpy; print("OpenCV", cv2.__version__, "numpy", numpy.__version__, cv2.__file__)'
exec "$venv/bin/python" -m pytest "$@"
