#!/bin/sh
# Take out of the virtual environment $1 what the runtime never loads. It can't be upgraded afterwards: pip goes as well.
set -eu
python=$1/bin/python
opencv=$("$python" -m pip freeze | sed -n 's/^opencv-python==//p')
"$python" -m pip uninstall --quiet --yes opencv-python
"$python" -m pip install --quiet --no-cache-dir --no-compile --no-deps "opencv-python-headless==$opencv" # no windows

packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
cd "$packages"
rm -rf pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth "$1"/bin/pip*
find . -name tests -type d -prune -exec rm -rf {} +
find . -name '*.pyi' -delete
rm -rf numpy/f2py numpy/distutils numpy/_core/include numpy/_core/lib
if [ -d onnxruntime ]; then
    rm -rf onnxruntime/tools onnxruntime/transformers onnxruntime/quantization onnxruntime/datasets
    rm -f onnxruntime/capi/libonnxruntime.so.* # for programs in C; Python's module has it built in
fi
"$python" -m compileall -q -j 0 . >/dev/null || true # a template among the packages need not be Python
