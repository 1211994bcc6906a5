from __future__ import annotations

from pathlib import Path

import pytest
from line_load import ModelledEngine, devices_needed, figures, loaded, utilisation, watts

from tests.bundles import write_tiny_bundle


@pytest.mark.parametrize(
    ("cameras", "fps", "ms", "gain", "used", "devices"),
    [
        (1, 10, 20, 1.0, 0.2, 1),
        (3, 10, 20, 1.0, 0.6, 1),
        (4, 10, 20, 1.0, 0.8, 2),  # 3 cameras a device
        (7, 10, 20, 1.0, 1.4, 3),  # not 2: no camera is cut in two
        (7, 10, 20, 2.0, 0.7, 1),  # the limit itself is allowed, whatever the rounding
        (1, 35, 20, 1.0, 0.7, 1),
    ],
)
def test_utilisation_and_devices(cameras: int, fps: float, ms: float, gain: float, used: float, devices: int) -> None:
    assert utilisation(cameras, fps, ms, gain) == pytest.approx(used)
    assert devices_needed(cameras, fps, ms, gain) == devices


def test_a_camera_that_is_too_much_for_a_device() -> None:
    with pytest.raises(ValueError, match=r"uses 120% of a device, planned are at most 70%"):
        devices_needed(1, 60, 20)


def test_watts() -> None:
    assert watts(cameras=4, fps=10, mj=250) == pytest.approx(10)


def test_every_frame_of_a_simulated_load_is_counted(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle")
    with ModelledEngine(bundle, {1: [1.0, 3.0], 2: [4.0]}) as engine:
        run = loaded(engine, cameras=3, fps=50, seconds=0.2, max_batch=2, camera="64x48")
    row = figures([run])
    assert row["frames"] == 3 * 10
    assert run["taken"] == len(run["latency_ms"]) == len(run["infer_ms"])
    assert min(run["infer_ms"]) >= 1.0  # the modelled time is kept
    assert 0 < row["busy"] <= 1
