"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from simplenet_edge.bundle import Bundle

# Small tensors: threads would only wait for each other, most of all on a busy machine. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor do tests report to the makers of ONNX Runtime, which some of them import first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A slow machine is no failure: no test here asserts a time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, weights and golden numbers; its absence skips the test."""
    value = os.environ.get("SIMPLENET_EDGE_SHARED")
    if not value:
        pytest.skip("SIMPLENET_EDGE_SHARED is not set: no real data, weights and golden numbers here")
    path = Path(value)
    assert path.is_dir(), f"SIMPLENET_EDGE_SHARED={value} is not a folder"
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; tests must not change it."""
    from tests.bundles import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of drawn parts in the MVTec AD layout; tests must not change it."""
    from tests.runs import write_parts

    return write_parts(tmp_path_factory.mktemp("data") / "parts")


@pytest.fixture(scope="session")
def run_folder(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run on `parts`; tests must not change it."""
    from tests.runs import train_briefly

    folder = tmp_path_factory.mktemp("runs") / "run"
    train_briefly(parts, folder)
    return folder


@pytest.fixture(scope="session")
def bundle_path(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that run; tests must not change it."""
    from simplenet_edge.export.exporter import export_bundle
    from simplenet_edge.training.run import TrainingRun

    path = tmp_path_factory.mktemp("bundles") / "parts.bundle"
    export_bundle(TrainingRun.load(run_folder), path)
    return path


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A Ray cluster of this machine, started once for all tests; what runs in this process uses it."""
    from simplenet_edge.archive.cluster import ray_cluster

    with ray_cluster(cpus=2):
        yield
