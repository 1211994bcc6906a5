"""What the plant of `line_twin.py` does: stations whose controllers trigger one part after the other, and die."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.runtime.controllers.clients import PlcClient
from tests.runtime.controllers.plc import Plc, served
from tests.runtime.sources.gige_camera import GigeCamera

__all__ = ["OpcUaStation", "Parts", "S7Station", "Told"]

RUN_LENGTH = 25
"""Parts of one recipe in a row, on average."""


@dataclass(frozen=True)
class Told:
    """What the plant was answered about one part, `ms` after its trigger."""

    part_id: str
    recipe: str
    answered_id: str
    verdict: str  # OK, NG, INVALID, or ERROR where the line had no verdict
    reason: str
    ms: float
    changed: bool  # whether the part before had another recipe


class Parts:
    """The parts that are left for all stations."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there was one more."""
        with self._lock:
            self.count -= 1
            return self.count >= 0


class Station:
    """What all stations share: parts with ids and recipes, and what was answered. Something dies every `fault_s`."""

    def __init__(self, name: str, parts: Parts, recipes: Sequence[str], fault_s: float, faults: Counter[str]) -> None:
        self.name, self.parts, self.recipes, self.fault_s, self.faults = name, parts, recipes, fault_s, faults
        self.random = random.Random(name)
        self.fault_at = time.monotonic() + fault_s
        self.told: list[Told] = []
        self.recipe = recipes[0]

    def next_part(self) -> tuple[str, str, bool]:
        """The id and the recipe of the next part, and whether it is a changeover."""
        before = self.recipe
        if self.random.random() < 1 / RUN_LENGTH:
            self.recipe = self.random.choice(self.recipes)
        return f"{self.name}-{len(self.told):06d}", self.recipe, self.recipe != before

    def is_fault_due(self) -> bool:
        """Every `fault_s` seconds, on average."""
        if time.monotonic() < self.fault_at:
            return False
        self.fault_at += self.random.uniform(0.5, 1.5) * self.fault_s
        return True


class S7Station(Station):
    """The program of a Siemens controller; its network dies, or in its place the camera, where there is one to kill."""

    def run(self, port: int, camera: GigeCamera | None = None) -> None:
        """All parts, one after the other."""
        plc, serving = Plc(), ExitStack()
        serving.enter_context(served(plc, port))
        while self.parts.take():
            if self.is_fault_due():
                if camera is None:
                    self.faults["controller away"] += 1
                    serving.close()
                    time.sleep(0.5)
                    plc.block[plc.start + 100] = 0  # as a plant does when the watchdog stands still
                    serving.enter_context(served(plc, port))
                else:
                    self.faults["camera away"] += 1
                    camera.kill()
                    threading.Timer(1.0, camera.start).start()
            part_id, recipe, changed = self.next_part()
            plc.wait_for(0)
            started = time.perf_counter()
            plc.trigger(part_id, recipe)
            told = plc.result()
            verdict = "ERROR" if told.error else told.verdict
            ms = 1000 * (time.perf_counter() - started)
            self.told.append(Told(part_id, recipe, told.part_id, verdict, told.reason, ms, changed))
        serving.close()


class OpcUaStation(Station):
    """A client of OPC 40100-1 that starts a job for each part, and connects anew now and then."""

    def run(self, port: int) -> None:
        """All parts, one after the other."""
        url = f"opc.tcp://127.0.0.1:{port}/simplenet-edge"
        client = self.connect(url)
        while self.parts.take():
            if self.is_fault_due():
                self.faults["client away"] += 1
                client.close()
                client = self.connect(url)
            part_id, recipe, changed = self.next_part()
            client.events.clear()
            started = time.perf_counter()
            event = client.event("ResultReadyEventType", client.start(part_id, recipe))
            ms = 1000 * (time.perf_counter() - started)
            verdict, _, reason = (variant.Value for variant in event.ResultContent)
            self.told.append(Told(part_id, recipe, event.PartId.Id, verdict, reason, ms, changed))
            client.await_state("Ready")
        client.close()

    def connect(self, url: str) -> PlcClient:
        """As often as it takes: the line opens its server while it starts."""
        while True:
            try:
                client = PlcClient(url)
                client.call("VisionStateMachine/SelectModeAutomatic")
                client.await_state("Ready")
                return client
            except OSError:
                time.sleep(0.2)
