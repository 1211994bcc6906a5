from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from simplenet_edge.benchmark.environment import Activity, EnergyMeter, environment, peak_rss_mib
from simplenet_edge.system import resident_bytes


def zone(root: Path, name: str, microjoules: int, kind: str = "package-0") -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "name").write_text(f"{kind}\n")
    (root / name / "energy_uj").write_text(f"{microjoules}\n")
    (root / name / "max_energy_range_uj").write_text("10000000\n")


def test_it_names_the_machine_and_the_libraries() -> None:
    told = json.loads(json.dumps(environment(), allow_nan=False))
    assert told["cpu"]
    assert told["cpu_count"] >= 1
    assert told["memory_gib"] > 0
    assert told["os"]
    assert len(told["load_average"]) == 3
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    assert {"simplenet-edge", "python", "numpy", "opencv"} <= set(told["versions"])
    assert {"governor", "frequency_mhz", "jetpack", "power_mode", "gpu", "temperature_c"} <= set(told)


def test_memory_is_of_this_process() -> None:
    now = resident_bytes()
    assert now is not None
    assert 10 < now / 2**20 <= peak_rss_mib() * 1.05


def test_energy_adds_up_over_packages_and_over_the_counters_end(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 9_000_000)
    zone(tmp_path, "intel-rapl:1", 0)
    zone(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0, not to be counted twice
    zone(tmp_path, "intel-rapl:2", 0, kind="psys")  # and neither is the whole machine
    meter = EnergyMeter(tmp_path)
    assert meter.joules() == 0
    zone(tmp_path, "intel-rapl:0", 1_000_000)  # past its end: 2 J
    zone(tmp_path, "intel-rapl:1", 500_000)
    zone(tmp_path, "intel-rapl:0:0", 900_000)
    assert meter.joules() == pytest.approx(2.5)
    assert meter.joules() == pytest.approx(2.5)


def test_without_a_meter_no_energy_is_told(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "absent").joules() is None
    zone(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert EnergyMeter(tmp_path).joules() is None


def test_the_work_of_this_process_is_its_own() -> None:
    activity = Activity()
    shares = None
    while shares is None or shares["own"] == 0:  # the clock of the processors ticks 100 times a second
        sum(i * i for i in range(50_000))
        shares = activity.shares()
    assert set(shares) == {"own", "others", "stolen"}
    assert all(0 <= share <= 1.5 for share in shares.values())
