"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


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
