# The runtime on a Jetson with JetPack 6.1 or 6.2, whose TensorRT 10.3 is in the base image. On the device:
#   docker build -f containers/jetson.Dockerfile -t simplenet-edge:jetson .
#   docker run --runtime nvidia ...
# Never built or run: no Jetson was there.
ARG BASE=nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel

FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# OpenCV comes from Ubuntu, with GStreamer for CSI cameras. JetPack's packages are built for numpy 1.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-opencv python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python3 -m venv --system-site-packages /opt/simplenet-edge \
    && /opt/simplenet-edge/bin/python -m pip install --no-cache-dir '.[line]' 'numpy<2' 'cuda-python>=12.6,<13' \
    && /opt/simplenet-edge/bin/python -m pip uninstall --yes opencv-python \
    && rm -rf /source/*
COPY containers/healthy.py /opt/simplenet-edge/healthy.py
# Records, spool, kept pictures and compiled engines: the one place that is written, everything else may be read-only.
RUN useradd --uid 10001 --groups video inspect \
    && install -d -o inspect -g inspect /var/lib/simplenet-edge
ENV PATH=/opt/simplenet-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SIMPLENET_EDGE_CACHE=/var/lib/simplenet-edge/engines
USER 10001
WORKDIR /var/lib/simplenet-edge
VOLUME /var/lib/simplenet-edge
# The first start may compile an engine for minutes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30m CMD ["python3", "/opt/simplenet-edge/healthy.py"]
ENTRYPOINT ["simplenet-edge"]
CMD ["--help"]
