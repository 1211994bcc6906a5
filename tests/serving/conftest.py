from __future__ import annotations

from collections.abc import Iterator

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.onnxruntime import OnnxRuntimeEngine
from simplenet_edge.serving.batcher import BatchConfig
from simplenet_edge.serving.server import ModelServer


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    with OnnxRuntimeEngine(bundle, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[ModelServer]:
    """The tiny bundle as `tiny`, version 1."""
    with ModelServer([("tiny", engine)], port=0, batches=BatchConfig(max_batch=4)) as server:
        yield server
