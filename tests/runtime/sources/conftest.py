"""Cameras that several tests talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.sources.gige_camera import GigeCamera


@pytest.fixture
def camera() -> Iterator[GigeCamera]:
    with GigeCamera() as running:
        yield running
