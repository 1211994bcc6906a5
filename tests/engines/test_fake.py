"""What only the fake engine does."""

from __future__ import annotations

import time

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.errors import ConfigError, EngineError
from tests.bundles import even_frames


def test_fake_fails_on_the_calls_it_was_told_to(bundle: Bundle) -> None:
    with FakeEngine(bundle, fail_on=(1,)) as engine:
        engine.predict(even_frames(1))
        with pytest.raises(EngineError, match="call 1"):
            engine.predict(even_frames(1))
        engine.predict(even_frames(1))
        assert engine.calls == 3
    with engine:
        assert engine.calls == 0  # counted from each opening


def test_fake_takes_its_service_time(bundle: Bundle) -> None:
    with FakeEngine(bundle, service_time_ms=20) as engine:
        started = time.perf_counter()
        engine.predict(even_frames(1))
        assert time.perf_counter() - started >= 0.02
    with pytest.raises(ConfigError, match="service_time_ms"):
        FakeEngine(bundle, service_time_ms=-1)
