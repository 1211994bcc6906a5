"""Plans on disk: raw TensorRT bytes in `<fingerprint>.plan`, and what they are in `<fingerprint>.json` beside it.

A plan runs where everything in its key is as it was at the build: graph, precision, TensorRT, its version, GPU and
operating system. A plan that does not fit is named with the reason and left alone. Files appear whole or not at all.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuiltPlan
from simplenet_edge.errors import ConfigError, EngineError
from simplenet_edge.files import write_bytes
from simplenet_edge.spec import from_dict

__all__ = ["PlanKey", "PlanStore", "StoredPlan", "plan_folder", "plan_key"]

_FORMAT = 1


@dataclass(frozen=True)
class PlanKey:
    """What a plan depends on.

    `gpus` are the GPUs it runs on: compute capabilities such as "8.6" for TensorRT for RTX, the capability and the
    device's name for TensorRT. `platform` is the operating system and the processor, such as "linux-aarch64".
    """

    graph_sha256: str
    precision: str
    flavour: str
    version: str
    gpus: tuple[str, ...]
    platform: str
    opt_batch: int
    max_batch: int

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the plan's files."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def mismatch(self, wanted: PlanKey, any_profile: bool = False) -> str:
        """Why a plan of this key can't serve `wanted`, which names one GPU; empty where it can."""
        reasons = [
            f"{label} {getattr(self, name)}, here {getattr(wanted, name)}"
            for name, label in _LABELS.items()
            if getattr(self, name) != getattr(wanted, name) and not (any_profile and name.endswith("_batch"))
        ]
        if self.graph_sha256 != wanted.graph_sha256:
            reasons.insert(0, "built from another graph")
        if not set(wanted.gpus) <= set(self.gpus):
            reasons.append(f"built for GPU {', '.join(self.gpus)}, here {', '.join(wanted.gpus)}")
        return "; ".join(reasons)


_LABELS = {
    "precision": "built in precision",
    "flavour": "built with",
    "version": "built with version",
    "platform": "built on",
    "opt_batch": "built for a best batch of",
    "max_batch": "built for batches up to",
}


@dataclass(frozen=True)
class StoredPlan:
    """A plan on disk. `build` is what its sidecar tells of the build: seconds, time, fallbacks."""

    path: Path
    key: PlanKey
    sha256: str
    build: dict[str, Any]

    @property
    def sidecar(self) -> Path:
        """The JSON file beside the plan."""
        return self.path.with_suffix(".json")

    @property
    def runtime_cache(self) -> Path:
        """Where TensorRT for RTX keeps the kernels that it compiled for this plan on this device."""
        return self.path.with_suffix(".rtxcache")

    def read(self) -> bytes:
        """The plan's bytes, checked against the sidecar. Raises EngineError where they are cut off or changed."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise EngineError(f"{self.path} can't be read ({error}); build again") from error
        if len(data) != self.build["bytes"]:
            raise EngineError(
                f"{self.path} has {len(data)} bytes, its sidecar says {self.build['bytes']}: it was cut off"
            )
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise EngineError(f"{self.path} is not the file that its sidecar describes: it was changed")
        return data


class PlanStore:
    """The plans of one bundle in one folder, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, wanted: PlanKey, any_profile: bool = False) -> tuple[StoredPlan | None, tuple[str, ...]]:
        """The newest whole plan that serves `wanted`, and why each other file of its kind does not."""
        reasons: list[str] = []
        found: list[StoredPlan] = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                stored = _read_sidecar(path)
                if (stored.key.precision, stored.key.flavour) != (wanted.precision, wanted.flavour):
                    continue  # another engine's plan
                if reason := stored.key.mismatch(wanted, any_profile):
                    reasons.append(f"{path.name}: {reason}")
                    continue
                stored.read()
                found.append(stored)
            except EngineError as error:
                reasons.append(str(error))
        newest = max(found, key=lambda stored: str(stored.build["created"]), default=None)
        return newest, tuple(reasons)

    def all(self) -> tuple[list[StoredPlan], list[str]]:
        """Every plan whose sidecar can be read, whatever it fits, and what is wrong with the others."""
        plans: list[StoredPlan] = []
        problems: list[str] = []
        for path in sorted(self.folder.glob("*.plan")):
            try:
                plans.append(_read_sidecar(path))
            except EngineError as error:
                problems.append(str(error))
        return plans, problems

    def save(self, key: PlanKey, built: BuiltPlan) -> StoredPlan:
        """Write a plan and its sidecar, the sidecar last: without it a plan is no plan. Raises EngineError."""
        build = {
            "bytes": len(built.plan),
            "seconds": round(built.seconds, 3),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
            "fallbacks": list(built.fallbacks),
        }
        path = self.folder / f"{key.fingerprint}.plan"
        stored = StoredPlan(path, key, hashlib.sha256(built.plan).hexdigest(), build)
        text = {"format": _FORMAT, "key": dataclasses.asdict(key), "sha256": stored.sha256, "build": build}
        try:
            write_bytes(path, built.plan)
            write_bytes(stored.sidecar, (json.dumps(text, indent=2) + "\n").encode())
        except OSError as error:
            raise EngineError(f"{path} can't be written ({error}); name another folder with --cache") from error
        return stored

    def discard(self, stored: StoredPlan) -> None:
        """Remove a plan that does not run, so that nobody tries it again."""
        for path in (stored.sidecar, stored.path, stored.runtime_cache):
            path.unlink(missing_ok=True)


def _read_sidecar(path: Path) -> StoredPlan:
    sidecar = path.with_suffix(".json")
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise EngineError(f"{sidecar} has format {values['format']}, expected {_FORMAT}")
        stored = StoredPlan(path, from_dict(PlanKey, values["key"]), str(values["sha256"]), dict(values["build"]))
        if not isinstance(stored.build["bytes"], int) or not isinstance(stored.build["created"], str):
            raise TypeError("build has no bytes or created")
        return stored
    except FileNotFoundError:
        raise EngineError(f"{path} has no sidecar {sidecar.name}: it is not a plan of simplenet-edge") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise EngineError(f"{sidecar} is damaged ({type(error).__name__}: {error})") from error


def plan_folder(bundle: Bundle, cache: Path | None = None) -> Path:
    """Where the plans of a bundle live: `engines/` in its folder.

    For a `.zip`, or a folder that can't be written, `$XDG_CACHE_HOME/simplenet-edge/<bundle id>`; with `cache`, or
    `$SIMPLENET_EDGE_CACHE` set, always `<cache>/<bundle id>`.
    """
    if cache is None and os.environ.get("SIMPLENET_EDGE_CACHE"):
        cache = Path(os.environ["SIMPLENET_EDGE_CACHE"])
    if cache is None and bundle.path.is_dir() and os.access(bundle.path, os.W_OK):
        return bundle.path / "engines"
    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simplenet-edge"
    return cache / bundle.id


def _platform() -> str:
    """The operating system and the processor, such as "linux-x86_64"."""
    return f"{platform.system()}-{platform.machine()}".lower()


def plan_key(
    bundle: Bundle, precision: str, flavour: str, version: str, gpus: tuple[str, ...], profile: BatchProfile
) -> PlanKey:
    """The key of a plan that is built here from a bundle's graph."""
    graph = bundle.manifest.files[bundle.record(precision).graph]
    return PlanKey(graph, precision, flavour, version, gpus, _platform(), profile.opt_batch, profile.max_batch)
