"""A plan that is kept has replayed the golden frames; one that gives other numbers is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from simplenet_edge.engines.tensorrt import provision
from simplenet_edge.errors import BundleError, ConfigError, ParityError
from simplenet_edge.workflows.build_engine import build_engine
from tests.bundles import write_tiny_bundle
from tests.cli.test_build import drifted_graph
from tests.engines.tensorrt.simulated_gpu import install_simulation


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install_simulation(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny").path


def test_a_plan_is_built_once_and_proven_each_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_engine(path, "tensorrt")
    assert first.replayed is not None
    assert first.replayed.passed
    assert first.plan.path.parent == path / "engines"
    monkeypatch.setattr(provision, "build_plan", None)  # a build would fail
    again = build_engine(path, "tensorrt")
    assert again.plan == first.plan
    assert again.replayed == first.replayed


@pytest.mark.parametrize(
    ("opt_batch", "max_batch", "expected"),
    [(None, None, (1, 4)), (2, None, (2, 4)), (8, None, (8, 8)), (None, 2, (1, 2)), (2, 3, (2, 3))],
)
def test_batch_sizes(path: Path, opt_batch: int | None, max_batch: int | None, expected: tuple[int, int]) -> None:
    key = build_engine(path, "tensorrt", opt_batch=opt_batch, max_batch=max_batch).plan.key
    assert (key.opt_batch, key.max_batch) == expected


def test_rebuild_and_cache(path: Path, tmp_path: Path) -> None:
    first = build_engine(path, "tensorrt", cache=tmp_path / "cache")
    assert first.plan.path.is_relative_to(tmp_path / "cache")
    assert not (path / "engines").exists()
    again = build_engine(path, "tensorrt", cache=tmp_path / "cache", rebuild=True)
    assert again.plan.build["created"] > first.plan.build["created"]


def test_a_plan_that_gives_other_numbers_is_removed(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "drifted", drifted_graph())
    with pytest.raises(ParityError, match="does not give the bundle's numbers"):
        build_engine(bundle.path, "tensorrt")
    assert not list((bundle.path / "engines").glob("*.plan"))
    assert not list((bundle.path / "engines").glob("*.json"))


def test_what_can_not_be_built(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="builds for tensorrt_rtx, not for tensorrt"):
        build_engine(path, "tensorrt", target="rtx:8.6")
    with pytest.raises(ConfigError, match="nothing to build"):
        build_engine(path, "onnxruntime")
    with pytest.raises(BundleError, match="absent"):
        build_engine(tmp_path / "absent")
    assert not (path / "engines").exists()
