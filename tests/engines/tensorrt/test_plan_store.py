"""Plans on disk: which one fits, and why another does not."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.tensorrt.builder import BatchProfile, BuiltPlan
from simplenet_edge.engines.tensorrt.plan_store import PlanKey, PlanStore, StoredPlan, plan_folder, plan_key
from simplenet_edge.errors import EngineError
from tests.bundles import write_tiny_bundle

KEY = PlanKey("a" * 64, "int8", "tensorrt_rtx", "1.7.1", ("8.6", "8.9"), "linux-x86_64", 1, 4)
HERE = dataclasses.replace(KEY, gpus=("8.9",))
BUILT = BuiltPlan(b"plan" * 100, b"", 2.5, ("no workspace cap",))


@pytest.fixture
def stored(tmp_path: Path) -> StoredPlan:
    return PlanStore(tmp_path).save(KEY, BUILT)


def reasons(folder: Path, wanted: PlanKey = HERE) -> str:
    found, why = PlanStore(folder).find(wanted)
    assert found is None
    return "; ".join(why)


def test_a_plan_is_found_again(stored: StoredPlan, tmp_path: Path) -> None:
    found, why = PlanStore(tmp_path).find(HERE)
    assert found == stored
    assert found.read() == BUILT.plan
    assert why == ()
    assert {path.name for path in tmp_path.iterdir()} == {f"{KEY.fingerprint}.plan", f"{KEY.fingerprint}.json"}
    assert json.loads(stored.sidecar.read_text())["build"]["fallbacks"] == ["no workspace cap"]


def test_the_newest_of_two_is_taken(stored: StoredPlan, tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    newer = store.save(dataclasses.replace(KEY, gpus=("8.9",)), BUILT)
    assert store.find(HERE)[0] == newer


MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "another graph": ({"graph_sha256": "b" * 64}, "built from another graph"),
    "another version": ({"version": "1.8.0"}, "built with version 1.7.1, here 1.8.0"),
    "another GPU": ({"gpus": ("12.0",)}, "built for GPU 8.6, 8.9, here 12.0"),
    "another system": ({"platform": "windows-amd64"}, "built on linux-x86_64, here windows-amd64"),
    "a larger batch": ({"max_batch": 8}, "built for batches up to 4, here 8"),
    "another best batch": ({"opt_batch": 2}, "built for a best batch of 1, here 2"),
}


@pytest.mark.parametrize(("changes", "reason"), MISMATCHES.values(), ids=MISMATCHES.keys())
def test_a_plan_that_does_not_fit_is_named_with_the_reason(
    stored: StoredPlan, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    assert reasons(tmp_path, dataclasses.replace(HERE, **changes)) == f"{stored.path.name}: {reason}"


def test_any_profile_will_do_when_none_is_asked_for(stored: StoredPlan, tmp_path: Path) -> None:
    wanted = dataclasses.replace(HERE, opt_batch=2, max_batch=8)
    assert PlanStore(tmp_path).find(wanted, any_profile=True)[0] == stored


@pytest.mark.parametrize("change", [{"precision": "fp16"}, {"flavour": "tensorrt"}])
def test_plans_of_other_engines_are_no_news(stored: StoredPlan, tmp_path: Path, change: dict[str, Any]) -> None:
    assert reasons(tmp_path, dataclasses.replace(HERE, **change)) == ""


def test_every_field_counts_in_the_fingerprint() -> None:
    other: dict[str, Any] = {
        field.name: ("x",) if field.name == "gpus" else 3 if field.name.endswith("batch") else "x"
        for field in dataclasses.fields(PlanKey)
    }
    prints = {dataclasses.replace(KEY, **{name: value}).fingerprint for name, value in other.items()}
    assert len(prints | {KEY.fingerprint}) == len(other) + 1


def test_a_truncated_plan(stored: StoredPlan, tmp_path: Path) -> None:
    stored.path.write_bytes(BUILT.plan[:123])
    assert "has 123 bytes, its sidecar says 400: it was cut off" in reasons(tmp_path)


def test_a_changed_plan(stored: StoredPlan, tmp_path: Path) -> None:
    stored.path.write_bytes(b"PLAN" + BUILT.plan[4:])
    assert "is not the file that its sidecar describes: it was changed" in reasons(tmp_path)


def test_a_foreign_plan_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "trtexec.plan").write_bytes(b"foreign")
    assert "trtexec.plan has no sidecar trtexec.json: it is not a plan of simplenet-edge" in reasons(tmp_path)
    assert (tmp_path / "trtexec.plan").read_bytes() == b"foreign"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 2}',
        '{"format": 1, "key": {}, "sha256": "", "build": {}}',
    ],
)
def test_a_damaged_sidecar(stored: StoredPlan, tmp_path: Path, text: str) -> None:
    stored.sidecar.write_text(text)
    assert "is damaged" in reasons(tmp_path) or "has format 2, expected 1" in reasons(tmp_path)


def test_a_sidecar_that_is_no_text(stored: StoredPlan, tmp_path: Path) -> None:
    stored.sidecar.write_bytes(b"\xff\xfe\x00")
    assert "is damaged" in reasons(tmp_path)


def test_a_plan_without_its_bytes(stored: StoredPlan) -> None:
    stored.path.unlink()
    with pytest.raises(EngineError, match="can't be read"):
        stored.read()


def test_discard_leaves_nothing(stored: StoredPlan, tmp_path: Path) -> None:
    stored.runtime_cache.write_bytes(b"kernels")
    PlanStore(tmp_path).discard(stored)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match=r"can't be written .*--cache"):
        PlanStore(tmp_path / "file").save(KEY, BUILT)


def test_plans_lie_in_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    assert plan_folder(bundle) == bundle.path / "engines"
    assert plan_folder(bundle, tmp_path) == tmp_path / bundle.id


def test_plans_of_a_zip_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.zip")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert plan_folder(bundle) == tmp_path / "cache" / "simplenet-edge" / bundle.id
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert plan_folder(bundle) == Path.home() / ".cache" / "simplenet-edge" / bundle.id


def test_plans_of_a_read_only_bundle_lie_in_the_cache(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan_folder(bundle) == tmp_path / "simplenet-edge" / bundle.id


def test_the_key_holds_the_graph(bundle: Bundle) -> None:
    key = plan_key(bundle, "fp32", "tensorrt", "10.3", ("8.7 Orin",), BatchProfile(2, 8))
    assert key.graph_sha256 == bundle.manifest.files["model.fp32.onnx"]
    assert (key.opt_batch, key.max_batch) == (2, 8)
    assert "-" in key.platform
