from __future__ import annotations

import pytest
import serve

from simplenet_edge.bundle import Bundle
from tests.bundles import even_frames


def test_every_request_of_every_client_is_counted(bundle: Bundle) -> None:
    with serve.serving(bundle.path, "onnxruntime", 1, max_batch=2) as address:
        before = serve.calls(address)
        run = serve.served(address, even_frames(1), clients=2, outputs=("score", "map"), seconds=0.2)
        frames, calls = (now - then for now, then in zip(serve.calls(address), before, strict=True))
    assert len(run["latency_ms"]) + 2 == frames >= calls > 0  # each client asks once before it is told to begin
    assert 1 <= run["batch"] <= 2
    assert run["fps"] > 0


def test_a_ratio_is_that_of_one_turn() -> None:
    runs = [(bare, {"fps": fps, "latency_ms": [fps], "batch": 2.0}) for bare, fps in ((10, 9), (100, 50), (20, 16))]
    found = serve.row(8, ("score",), 4, runs)
    assert (found["ratio_least"], found["ratio"], found["ratio_most"]) == pytest.approx((0.5, 0.8, 0.9))
    assert (found["engine_batch"], found["served_batch"], found["latency_p50_ms"]) == (4, 2.0, 16.0)
    assert serve.table([found]).splitlines()[2] == "| 8 | score | 20 | 16 | 0.8 | 16.0 | 49.3 |"
