"""A plant with hundreds of stations, on paper and by simulation: traffic, storage, a back-test, a new bundle for all.

    python benchmarks/fleet.py --bundle part.bundle --images images/

Measured here, on the bundle and the images given: what the line writes per frame (a record, a kept picture with its
record, an overlay), what a bundle weighs, and what it takes to open one and replay its golden frames. Everything else
is arithmetic with the assumptions that `docs/scale.md` lists, but for the roll-out, which is simulated, event by event:
stations fetch the bundle over one link, those that are off come back at random, it runs in the shadow for a number
of parts, and each wave waits for most of the one before. Written to `results/fleet.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_result

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import run
from simplenet_edge.runtime.sinks import JsonlSink, OverlaySink, PictureStore
from simplenet_edge.runtime.sources import open_source

YEAR_S = 365 * 86400


@dataclasses.dataclass(frozen=True)
class Plant:
    """What is assumed; rates are of one camera, shares of all parts."""

    stations: int = 200
    cameras: int = 1000
    parts_per_s: float = 1.0
    hours_per_year: float = 6000  # three shifts, 250 days
    kept_share: float = 0.03  # NG, and 1 % of the others
    wan_mbit: float = 50  # from where the bundle comes to the plant
    lan_mbit: float = 1000  # what the archive is read over
    off_share: float = 0.03  # of the stations, at any moment
    off_hours: float = 8  # the mean time that one is off
    shadow_parts: int = 2000  # judged by both bundles, per station, before the swap
    waves: tuple[float, ...] = (0.01, 0.1, 1.0)  # shares of the stations that have swapped when a wave ends
    wave_quorum: float = 0.95  # of a wave's stations: then the next one starts

    @property
    def frames_per_year(self) -> float:
        """Of all cameras."""
        return self.cameras * self.parts_per_s * self.hours_per_year * 3600

    @property
    def peak_frames_per_s(self) -> float:
        """While all lines run."""
        return self.cameras * self.parts_per_s


def measured(bundle: Bundle, images: Path) -> dict[str, float]:
    """Bytes per frame of each kind of result, and what a bundle weighs and takes to start."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, open_engine(bundle) as engine:
        verify(engine).require()
        start_s = time.perf_counter() - started
        kept, overlays, records = Path(folder, "kept"), Path(folder, "overlays"), Path(folder, "records.jsonl")
        sinks = [JsonlSink(records), PictureStore(kept, ok_share=1.0), OverlaySink(overlays, "all")]
        frames = run(open_source(str(images)), Detector(engine), sinks).frames
        return {
            "frames": frames,
            "record_bytes": records.stat().st_size / frames,
            "kept_bytes": _folder_bytes(kept) / frames,
            "overlay_bytes": _folder_bytes(overlays) / frames,
            "source_bytes": _folder_bytes(images) / frames,
            "bundle_bytes": _folder_bytes(bundle.path) if bundle.path.is_dir() else bundle.path.stat().st_size,
            "start_s": start_s,
        }


def on_paper(plant: Plant, sizes: dict[str, float], frames_per_s_core: float) -> dict[str, float]:
    """Traffic, storage and the time of a back-test over a year of everything and of what was kept."""
    frames, kept = plant.frames_per_year, plant.frames_per_year * plant.kept_share
    link_frames_per_s = plant.lan_mbit * 1e6 / 8 / sizes["source_bytes"]
    return {
        "frames_per_year": frames,
        "records_mbit_s": plant.peak_frames_per_s * sizes["record_bytes"] * 8 / 1e6,
        "kept_mbit_s": plant.peak_frames_per_s * plant.kept_share * sizes["kept_bytes"] * 8 / 1e6,
        "every_picture_mbit_s": plant.peak_frames_per_s * sizes["source_bytes"] * 8 / 1e6,
        "records_tb_year": frames * sizes["record_bytes"] / 1e12,
        "kept_tb_year": kept * sizes["kept_bytes"] / 1e12,
        "every_picture_tb_year": frames * sizes["source_bytes"] / 1e12,
        "station_kept_gb_year": kept * sizes["kept_bytes"] / plant.stations / 1e9,
        "station_days_to_fill_8_gib": 8 * 2**30 / (kept * sizes["kept_bytes"] / plant.stations / 365),
        "backtest_kept_core_days": 2 * kept / frames_per_s_core / 86400,
        "backtest_all_core_days": 2 * frames / frames_per_s_core / 86400,
        "cores_that_fill_the_link": link_frames_per_s / (frames_per_s_core / 2),
        "backtest_kept_hours_at_the_link": kept / link_frames_per_s / 3600,
        "backtest_sample_of_1e6_minutes_on_64_cores": 2e6 / frames_per_s_core / 64 / 60,
    }


def roll_out(plant: Plant, sizes: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Hours from the release until shares of the stations have swapped, of one simulated roll-out.

    A station that is off comes back after an exponential time and may go off again before it has finished; the link
    carries one download after the other, in the order of asking; what a station has judged in the shadow is lost when
    it goes off.
    """
    download_s = sizes["bundle_bytes"] * 8 / (plant.wan_mbit * 1e6)
    shadow_s = plant.shadow_parts / (plant.parts_per_s * plant.cameras / plant.stations)
    on_hours = plant.off_hours * (1 - plant.off_share) / plant.off_share
    is_off = rng.random(plant.stations) < plant.off_share
    order = np.argsort(is_off, kind="stable")  # those that are off when the release starts come last
    swapped_s = np.zeros(plant.stations)
    start_s, first = 0.0, 0
    for share in plant.waves:
        last = max(first + 1, round(plant.stations * share))
        wave = order[first:last]
        back_s = rng.exponential(plant.off_hours * 3600, len(wave))
        ready = np.maximum(start_s, np.where(is_off[wave], back_s, 0.0))
        link_s = start_s
        for station in np.argsort(ready, kind="stable"):
            link_s = max(link_s, ready[station]) + download_s
            end_s = link_s + sizes["start_s"]
            while (up_s := rng.exponential(on_hours * 3600)) < shadow_s:
                end_s += up_s + rng.exponential(plant.off_hours * 3600)
            swapped_s[wave[station]] = end_s + shadow_s
        start_s = float(np.quantile(swapped_s[wave], plant.wave_quorum, method="higher"))
        first = last
    return {f"{share:g}": float(np.quantile(swapped_s, share, method="higher")) / 3600 for share in (0.5, 0.95, 1.0)}


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, reckon, simulate and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of camera pictures")
    parser.add_argument("--frames-per-s", type=float, required=True, help="of `score`, on one core")
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args(arguments)
    plant = Plant()
    sizes = measured(Bundle(options.bundle), options.images)
    rng = np.random.default_rng(0)
    trials = [roll_out(plant, sizes, rng) for _ in range(options.trials)]
    result = {
        "machine": machine("numpy"),
        "assumed": {**dataclasses.asdict(plant), "frames_per_s_core": options.frames_per_s},
        "measured": sizes,
        "on_paper": on_paper(plant, sizes, options.frames_per_s),
        "roll_out_hours": {
            share: {
                "median": float(np.median([trial[share] for trial in trials])),
                "p95": float(np.quantile([trial[share] for trial in trials], 0.95)),
            }
            for share in trials[0]
        },
    }
    write_result("fleet", result)
    return result


if __name__ == "__main__":
    main()
