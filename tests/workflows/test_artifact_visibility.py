from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.bundle import MANIFEST_NAME, Bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import BundleError, ConfigError, DataError
from simplenet_edge.evaluation.visibility import VisibilityConfig
from simplenet_edge.workflows.artifact_visibility import MeasuredVisibility, measure_artifact
from tests.bundles import even_frames, write_tiny_bundle

CONFIG = VisibilityConfig(draws=100)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Images of good parts, and one that is none."""
    folder = tmp_path / "good"
    folder.mkdir()
    for i, frame in enumerate(even_frames(8)):
        cv2.imwrite(str(folder / f"{i}.png"), frame)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def measured(
    bundle: Path, good: Path | None, engine: str = "onnxruntime", precision: str = "fp32"
) -> MeasuredVisibility:
    return measure_artifact(bundle, good, engine=engine, precision=precision, config=CONFIG)


@pytest.mark.parametrize("name", ["tiny.bundle", "tiny.zip"])
def test_the_figures_go_into_the_manifest_and_nothing_else_changes(tmp_path: Path, good: Path, name: str) -> None:
    before = write_tiny_bundle(tmp_path / name)
    files = dict(before.manifest.files)
    found = measured(before.path, good)
    after = Bundle(before.path)
    assert after.id == found.bundle_id != before.id
    assert after.manifest.files == files
    record = after.record()
    assert record.metrics["visibility"] == json.loads(json.dumps(found.visibility.figures()))
    assert (record.operating_point, record.parity) == (before.record().operating_point, before.record().parity)
    with open_engine(after, "onnxruntime") as engine:
        verify(engine).require()
    assert found.page == tmp_path / "tiny-visibility" / "visibility.html"
    assert found.page.is_file()
    kept = json.loads((found.page.parent / "visibility.json").read_text(encoding="utf-8"))
    assert kept["sizes"] == record.metrics["visibility"]["sizes"]
    assert len(found.left_out) == 1
    assert measured(before.path, good).bundle_id == found.bundle_id  # the same figures again, and no others beside


def test_what_is_drawn_is_found_by_the_bundle(tmp_path: Path, good: Path) -> None:
    """The tiny graph is a high pass: it sees edges of some 30 grey levels, whatever their size."""
    found = measured(write_tiny_bundle(tmp_path / "tiny.bundle").path, good).visibility
    assert found.size("spot", 0.4).a90_95_px is not None
    assert found.size("dent", 0.1).a90_px is None
    assert (found.n_images, found.n_rejected, found.image_hw) == (8, 0, (32, 48))


def test_the_fastest_engine_judges_unless_one_is_named(tmp_path: Path, good: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path
    named, fastest = (measured(bundle, good, engine=engine).visibility for engine in ("onnxruntime", "auto"))
    assert fastest == named


def test_without_images_and_on_a_full_disk_the_bundle_stays(tmp_path: Path, good: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.bundle").path
    manifest = (bundle / MANIFEST_NAME).read_bytes()
    with pytest.raises(ConfigError, match="--good FOLDER"):
        measured(bundle, None)
    with pytest.raises(BundleError, match="no int8 graph"):
        measured(bundle, good, precision="int8")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="found no image"):
        measured(bundle, empty)
    for path in sorted(good.glob("*.png"))[:-3]:
        path.unlink()
    with pytest.raises(DataError, match="at least 5 good images"):
        measured(bundle, good)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError):
        measure_artifact(bundle, good, tmp_path / "file", "onnxruntime")
    assert (bundle / MANIFEST_NAME).read_bytes() == manifest


def test_a_model_that_is_none(tmp_path: Path, good: Path) -> None:
    with pytest.raises(ConfigError, match="go with a bundle"):
        measured(tmp_path, good)


def test_images_of_which_many_are_rejected_say_so(tmp_path: Path, good: Path) -> None:
    for i in range(4):
        spotted = np.array(even_frames(1)[0])
        spotted[8:12, 8:12] = 255
        cv2.imwrite(str(good / f"spot{i}.png"), spotted)
    found = measured(write_tiny_bundle(tmp_path / "tiny.bundle").path, good).visibility
    assert (found.n_images, found.n_rejected) == (8, 4)
