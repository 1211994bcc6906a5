"""What a worker makes of a block, without Ray."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from simplenet_edge.archive.pictures import find_pictures
from simplenet_edge.archive.results import Model
from simplenet_edge.archive.scorer import ScoreJob, Scorer
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import fake
from simplenet_edge.errors import EngineError
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.spec import Frames, Prediction
from tests.archive.pictures import scores_of, write_pictures
from tests.bundles import THRESHOLD, write_tiny_bundle


def job(*bundles: Bundle, engine: str = "onnxruntime", **changes: Any) -> ScoreJob:
    models = tuple(Model(bundle.id, "fp32", THRESHOLD, f"m{i}_") for i, bundle in enumerate(bundles))
    zipped = tuple(bundle.zipped() for bundle in bundles)
    return dataclasses.replace(ScoreJob(models, zipped, engine, None, 4, ()), **changes)


def block(folder: Path) -> pa.Table:
    rows = [
        {"path": one.path, "source": one.source, "store": None, "bytes": one.bytes, "mtime": None, "data": None}
        for one in find_pictures([str(folder)], [])
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["path"])))


def test_scores_are_those_of_the_detector(bundle: Bundle, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "a", 11)
    deep = read_image(paths[0]).astype(np.uint16) * 257
    assert cv2.imwrite(str(paths[1]), deep)  # 16 bits
    assert cv2.imwrite(str(paths[2]), read_image(paths[2])[:, :, 0])  # grey
    assert cv2.imwrite(str(paths[3]), np.tile(read_image(paths[3]), (3, 2, 1)))  # another size
    found = Scorer(job(bundle))(block(tmp_path / "a")).to_pylist()
    expected = scores_of(bundle, paths)
    assert {row["path"]: row["m0_score"] for row in found} == pytest.approx(expected, rel=1e-5)
    sizes = {row["path"]: (row["width"], row["height"]) for row in found}
    assert (sizes[str(paths[0])], sizes[str(paths[3])]) == ((48, 32), (96, 96))
    assert {row["fault"] for row in found} == {None}


def test_two_models_with_a_size_and_a_depth_of_their_own(bundle: Bundle, tmp_path: Path) -> None:
    spec = dataclasses.replace(bundle.manifest.input, bit_depth=12)
    other = write_tiny_bundle(tmp_path / "other.zip", input=spec, name="other")
    paths = write_pictures(tmp_path / "a", 5)
    wide = read_image(paths[4]).astype(np.uint16) * 257  # more than 12 bits: no picture for the second
    assert cv2.imwrite(str(paths[4]), wide)
    found = {row["path"]: row for row in Scorer(job(bundle, other))(block(tmp_path / "a")).to_pylist()}
    assert "--bit-depth 12" in found[str(paths[4])]["error"]
    assert found[str(paths[4])]["m0_score"] is None
    for path in map(str, paths[:4]):
        assert found[path]["m0_score"] == found[path]["m1_score"] is not None


def test_what_cannot_be_scored_is_a_row_with_its_reason(bundle: Bundle, tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 9)
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    paths[2].write_text("no image")
    rows = block(tmp_path)
    paths[3].unlink()  # since it was listed
    found = {row["path"]: row for row in Scorer(job(bundle))(rows).to_pylist()}
    assert len(found) == 9
    for i, path in enumerate(map(str, paths)):
        assert (found[path]["m0_score"] is None) == (found[path]["error"] is not None) == (i < 4)
    assert "can't be read" in found[str(paths[3])]["error"]
    assert found[str(paths[1])]["width"] is None


def test_a_frame_that_an_engine_refuses_costs_its_batch_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: fake.FakeEngine, frames: Frames) -> Prediction:
        if (frames.max(axis=(1, 2, 3)) == 255).any():
            raise EngineError("not finite")
        return Prediction(np.ones(len(frames), np.float32), np.ones((len(frames), *self.map_hw), np.float32))

    monkeypatch.setattr(fake.FakeEngine, "_predict", refuses)
    write_pictures(tmp_path, 8)
    found = Scorer(job(bundle, engine="fake"))(block(tmp_path)).to_pylist()
    assert [row["error"] for row in found].count("not finite") == 2
    assert [row["m0_score"] for row in found].count(1.0) == 6


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"engine": "tensorrt"}, "Engine"),
        ({"models": (Model("f" * 12, "fp32", 1.0),)}, "BundleError: expected the bundle ffffffffffff"),
        ({"bundles": (b"PK no zip",)}, "BundleError: "),
    ],
)
def test_a_worker_that_cannot_work_says_so(bundle: Bundle, tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    write_pictures(tmp_path, 2)
    found = Scorer(job(bundle, **changes))(block(tmp_path))
    assert found["fault"][0].as_py().startswith(fault)
