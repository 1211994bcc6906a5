"""A plant around a line, every part of it real: cameras, controllers, brokers, and everything that dies in a shift.

    python benchmarks/line_twin.py --parts 100000                  # tiny models: what the line itself takes
    python benchmarks/line_twin.py --parts 2000 --bundle a.bundle --bundle b.bundle

`simplenet-edge run --line` in a process of its own: a GigE Vision camera (Aravis' fake one, which loses packets) that a
Siemens S7 triggers (python-snap7's server), drawn cameras that another S7 and an OPC UA client (by OPC 40100-1)
trigger, and every result to an MQTT broker (mosquitto), a Modbus server (pymodbus) and a JSON Lines file. Each part has
an id of its own and one of several recipes, in short runs. Meanwhile the camera and the controllers die and come back.

Checked at the end, part by part: the answer has the part's id; what was answered as valid is in the records once, with
the same verdict, the recipe that was asked for and the bundle of that recipe; MQTT got each record. Written to
`results/line_twin.json`: what became of the parts, the milliseconds from trigger to result, of changeovers apart, and
the line's memory, threads and open files over time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from machine import machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1]))  # the servers that the tests talk to

from line_twin_stations import OpcUaStation, Parts, S7Station, Told

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import RecipeError
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.recipes import RecipeConfig, Recipes
from simplenet_edge.spec import OperatingPoint
from tests.bundles import write_tiny_bundle
from tests.runtime.sinks.brokers import Broker
from tests.runtime.sinks.test_modbus import COIL, REGISTER, UNIT
from tests.runtime.sinks.test_modbus import Controller as ModbusServer
from tests.runtime.sources.gige_camera import GigeCamera
from tests.servers import free_port

_JUDGED = ("OK", "NG")


def line_file(folder: Path, bundles: dict[str, Path], ports: dict[str, int]) -> Path:
    """The whole line as a plant would write it down."""
    recipes = "".join(
        f'[[recipe]]\nname = "{name}"\nnumber = {number}\nbundle = "{path}"\n'
        for number, (name, path) in enumerate(bundles.items(), 1)
    )
    path = folder / "line.toml"
    path.write_text(
        f"""
[line]
engine = "onnxruntime"
threads = 1
watch = "off"
[records]
jsonl = "records.jsonl"
{recipes}
[[camera]]
address = "genicam:"
name = "gige"
camera_trigger = "software"
trigger = "s7:127.0.0.1:{ports["gige"]}/DB10"
packet = 8000
timeout = 1
black = false
frozen = "off"
[[camera]]
address = "test://?fps=200&size=64x48"
name = "drawn"
trigger = "s7:127.0.0.1:{ports["drawn"]}/DB10"
frozen = "off"
[[camera]]
address = "test://?fps=200&size=64x48&seed=1"
name = "jobs"
trigger = "opcua:{ports["jobs"]}"
frozen = "off"
[[sink]]
to = "mqtt://127.0.0.1:{ports["mqtt"]}/twin"
[[sink]]
to = "modbus://127.0.0.1:{ports["modbus"]}?unit={UNIT}&coil={COIL}&register={REGISTER}&camera=gige"
"""
    )
    return path


def process_size(pid: int) -> dict[str, float]:
    """Resident MiB, threads and open files of the line."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    """How long it took."""
    if not values:
        return {"count": 0}
    p50, p99 = np.percentile(values, (50, 99)).tolist()
    return {"count": len(values), "p50": round(p50, 2), "p99": round(p99, 2), "max": round(max(values), 2)}


def check(told: Sequence[Told], records: Sequence[dict[str, Any]], ids: dict[str, str]) -> dict[str, int]:
    """How often something was wrong; all are to be zero."""
    by_part: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_part.setdefault(record["part_id"], []).append(record)
    wrong: Counter[str] = Counter(dict.fromkeys(("wrong part", "wrong recipe", "not in the records", "verdict"), 0))
    for part in told:
        found = by_part.get(part.part_id, [])
        wrong["wrong part"] += part.answered_id != part.part_id
        wrong["wrong recipe"] += any(
            record["recipe"] != part.recipe or record["bundle_id"] != ids[part.recipe] for record in found
        )
        if part.verdict == "ERROR":  # no verdict in time: at most a record that says so, or that came too late
            wrong["verdict"] += any(record["verdict"] == "OK" for record in found) and "taken back" not in part.reason
        else:
            wrong["not in the records"] += len(found) != 1
            wrong["verdict"] += any(record["verdict"] != part.verdict for record in found)
    return dict(wrong)


def cold_changeover(path: Path) -> dict[str, float]:
    """Seconds until a recipe that is not loaded is, and that its parts are INVALID meanwhile."""
    loader = ModelLoader(path, "onnxruntime", threads=1)
    first = loader.load()
    budget = RecipeConfig("first", {"warm": loader.load, "cold": loader.load}, memory_bytes=1)
    with Recipes(budget, lambda: first) as recipes:
        started, refused = time.perf_counter(), 0
        while True:
            recipes.sweep()
            try:
                recipes.detector("cold")
                break
            except RecipeError:
                refused += 1
                time.sleep(0.005)
        seconds = time.perf_counter() - started
    first.engine.close()
    return {"seconds": round(seconds, 3), "looked_up_in_vain": refused}


def main() -> None:
    """Run the plant and write down what became of its parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=100_000, help="of all stations together")
    parser.add_argument("--bundle", type=Path, action="append", help="of each recipe; tiny models when left out")
    parser.add_argument("--lost", type=int, default=1, help="of a thousand packets of the GigE camera")
    parser.add_argument("--fault-s", type=float, default=60, help="between two faults of a station, on average")
    parser.add_argument("--name", default="line_twin", help="of the file in results/")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = options.bundle or [
            write_tiny_bundle(folder / name, operating_point=OperatingPoint(60.0 + i, 0.05, 40, True)).path
            for i, name in enumerate(("gear", "shaft", "ring"))
        ]
        bundles = {f"recipe-{number}": path.resolve() for number, path in enumerate(paths, 1)}
        write_result(options.name, run_plant(folder, bundles, options, stack))


def run_plant(folder: Path, bundles: dict[str, Path], options: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """The line, the plant around it, and the figures."""
    broker, modbus = Broker(folder), ModbusServer(free_port())
    stack.callback(modbus.stop)
    broker.start()
    stack.callback(broker.kill)
    got: list[dict[str, Any]] = []
    subscriber = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    subscriber.on_message = lambda client, data, message: got.append(json.loads(message.payload))
    subscriber.message_callback_add("twin/status", lambda client, data, message: None)
    subscriber.connect("127.0.0.1", broker.port)
    subscriber.subscribe("twin/#", qos=1)
    subscriber.loop_start()
    stack.callback(subscriber.loop_stop)
    camera = stack.enter_context(GigeCamera(lost=options.lost))
    ports = {"mqtt": broker.port, "modbus": modbus.port}
    ports |= {name: free_port() for name in ("gige", "drawn", "jobs")}
    path, faults, parts = line_file(folder, bundles, ports), Counter[str](), Parts(options.parts)
    log = stack.enter_context((folder / "log").open("w"))
    line = subprocess.Popen([Path(sys.executable).with_name("simplenet-edge"), "run", "--line", path], stderr=log)
    stack.callback(line.kill)
    about = parts, list(bundles), options.fault_s, faults
    gige, drawn, jobs = S7Station("gige", *about), S7Station("drawn", *about), OpcUaStation("jobs", *about)
    stations = (gige, drawn, jobs)
    threads = [
        threading.Thread(target=gige.run, args=(ports["gige"], camera), daemon=True),
        threading.Thread(target=drawn.run, args=(ports["drawn"],), daemon=True),
        threading.Thread(target=jobs.run, args=(ports["jobs"],), daemon=True),
    ]
    started, sizes = time.perf_counter(), []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if line.poll() is not None:
            raise SystemExit(f"the line ended with {line.returncode}:\n{(folder / 'log').read_text()[-2000:]}")
        done = sum(len(station.told) for station in stations)
        if done >= len(sizes) * options.parts / 40:
            sizes.append({"parts": done, **process_size(line.pid)})
            print(sizes[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
        time.sleep(0.2)
    seconds = time.perf_counter() - started
    line.send_signal(signal.SIGTERM)
    line.wait(30)
    records = [json.loads(text) for text in (folder / "records.jsonl").read_text().splitlines()]
    told = [part for station in stations for part in station.told]
    if len(told) != options.parts:
        raise SystemExit(f"{len(told)} of {options.parts} parts were answered:\n{(folder / 'log').read_text()[-2000:]}")
    reasons = Counter(f"{part.verdict}: {part.reason.split(';')[0][:60]}" for part in told if part.reason)
    return {
        "machine": machine("numpy", "onnxruntime", "asyncua", "python-snap7", "pymodbus", "paho-mqtt"),
        "parts": len(told),
        "seconds": round(seconds, 1),
        "faults": dict(faults),
        "lost_packets_per_thousand": options.lost,
        "answers": {station.name: dict(Counter(part.verdict for part in station.told)) for station in stations},
        "reasons": dict(reasons.most_common(12)),
        "wrong": check(told, records, {name: Bundle(bundle).id for name, bundle in bundles.items()}),
        "records": len(records),
        "mqtt": {"received": len(got), "not_in_the_records": len(got) - len({json.dumps(r) for r in got})},
        "trigger_to_result_ms": {
            station.name: {
                "same recipe": milliseconds([p.ms for p in station.told if p.verdict in _JUDGED and not p.changed]),
                "changeover": milliseconds([p.ms for p in station.told if p.verdict in _JUDGED and p.changed]),
                "all": milliseconds([p.ms for p in station.told]),
            }
            for station in stations
        },
        "recipe_not_loaded": cold_changeover(next(iter(bundles.values()))),
        "line": sizes,
    }


if __name__ == "__main__":
    main()
