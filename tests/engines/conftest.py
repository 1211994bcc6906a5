"""What every engine is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from simplenet_edge.bundle import Bundle
from tests.bundles import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path: Path = tmp_path_factory.mktemp("bundle") / "tiny"
    return write_tiny_bundle(path)
