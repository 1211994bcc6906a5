# The runtime on a CPU, without PyTorch. From the top of the repository:
#   docker build -f containers/runtime.Dockerfile -t simplenet-edge .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=ort,line
WORKDIR /source
COPY . .
RUN python3 -m venv /opt/simplenet-edge \
    && /opt/simplenet-edge/bin/python -m pip install --no-cache-dir --no-compile ".[${EXTRAS}]" \
    && sh containers/slim.sh /opt/simplenet-edge

FROM ${BASE}
COPY --from=build /opt/simplenet-edge /opt/simplenet-edge
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
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "/opt/simplenet-edge/healthy.py"]
ENTRYPOINT ["simplenet-edge"]
CMD ["--help"]
