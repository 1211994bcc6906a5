"""The drawn parts of the trained bundle, in place of the loose frames that the line's tests inspect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs import write_parts


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of drawn parts in the MVTec AD layout; tests must not change it."""
    return write_parts(tmp_path_factory.mktemp("data") / "parts")
