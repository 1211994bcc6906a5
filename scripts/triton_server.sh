#!/bin/sh
# Make a real Triton server for the tests, in the folder $2, with the Python $1: an environment of its own, because it
# needs NumPy 1. Where it can't be installed this says so and goes on: the tests that need it are then skipped.
set -eu
python=$1
folder=$2

[ ! -e "$folder/.ready" ] || exit 0
install="$folder/bin/python -m pip install --quiet --retries 1"
if "$python" -m venv "$folder" >/dev/null 2>&1 &&
    $install --no-deps 'nvidia-pytriton==0.7.0' >/dev/null 2>&1 && # of which the tests want the server alone
    $install 'numpy<2' onnxruntime >/dev/null 2>&1; then
    touch "$folder/.ready"
else
    rm -rf "$folder"
    echo 'for the tests: no Triton server can be installed here; the tests that need it are skipped'
fi
