from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simplenet_edge.bundle import Bundle
from simplenet_edge.comparison import FP32_TOLERANCE, INT8_TOLERANCE, compare
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import ConfigError, DataError, ParityError
from simplenet_edge.export.exporter import export_bundle
from simplenet_edge.export.precision import acceptance as gate
from simplenet_edge.export.precision import precisions
from simplenet_edge.export.precision.calibration import calibration_images
from simplenet_edge.training.int8 import INT8_FOLDER
from simplenet_edge.training.run import TrainingRun

pytestmark = pytest.mark.slow

# Twenty labelled parts, seen by a random backbone: one image is more than a whole bound, and AUROC is near chance.
WIDE = gate.Bounds(auroc_loss=0.3, drawn_loss=0.3, flips=0.2, rank_correlation=0.5, rounding=1e-3)
ANEW = gate.Bounds(auroc_loss=1.0, drawn_loss=1.0)  # INT8 is trained for a moment only


def patch_bounds(patch: pytest.MonkeyPatch, bounds: dict[str, gate.Bounds]) -> None:
    patch.setattr(gate, "BOUNDS", bounds)
    patch.setattr(precisions, "BOUNDS", bounds)


@pytest.fixture(scope="module")
def bundle(run_folder: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch_bounds(patch, {"fp16": WIDE, "int8": ANEW})
        path = tmp_path_factory.mktemp("precisions") / "parts.bundle"
        run = TrainingRun.load(run_folder)
        return export_bundle(run, path, precisions=("fp16", "int8"), labelled=load_dataset(parts))


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_each_precision_has_its_own_evidence(bundle: Bundle, name: str) -> None:
    record, fp32 = bundle.record(name), bundle.record()
    assert record.operating_point.threshold != fp32.operating_point.threshold
    assert record.operating_point.n_calibration == fp32.operating_point.n_calibration
    assert record.operating_point.pixel_threshold is not None
    assert record.score_statistics != fp32.score_statistics
    assert record.tolerance > FP32_TOLERANCE
    assert record.parity["gate"]["images"] == "labelled"
    assert record.parity["gate"]["failures"] == []
    assert record.metrics["image_auroc"] == record.parity["gate"]["auroc"]
    assert "few" in record.parity["warnings"][0]
    json.dumps(record.parity, allow_nan=False)


def test_int8_is_a_model_of_its_own(bundle: Bundle, run_folder: Path) -> None:
    parity, run = bundle.record("int8").parity, TrainingRun.load(run_folder / INT8_FOLDER)
    n_convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in run.model.backbone.body.modules())
    assert parity["int8_layers"] > n_convolutions
    assert {name: one["verdict_flips"] for name, one in parity["proof"].items()} == {"folded": 0, "onnx": 0}
    assert all(one["map_max"] < INT8_TOLERANCE for one in parity["proof"].values())
    (frames, golden), (same_frames, fp32) = bundle.golden("int8"), bundle.golden()
    assert np.array_equal(frames, same_frames)
    expected = run.model.predict(frames)
    assert compare(golden, expected, 0.0).worst < INT8_TOLERANCE
    assert compare(golden, fp32, 0.0).worst > INT8_TOLERANCE


def test_a_second_export_trains_nothing(run_folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    weights = run_folder / INT8_FOLDER / "model.safetensors"
    before = weights.stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch_bounds(patch, {"int8": ANEW})
        again = export_bundle(TrainingRun.load(run_folder), tmp_path / "b", precisions=["int8"])
    assert weights.stat().st_mtime_ns == before
    assert again.graph("int8") == bundle.graph("int8")


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_the_golden_frames_replay_in_the_engine(bundle: Bundle, name: str) -> None:
    with open_engine(bundle, "onnxruntime", name) as engine:
        assert verify(engine).passed


def test_graphs_shrink(bundle: Bundle) -> None:
    fp32, fp16, int8 = (len(bundle.graph(name)) for name in ("fp32", "fp16", "int8"))
    assert fp16 < 0.7 * fp32
    assert int8 < 0.5 * fp32


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (dataclasses.replace(WIDE, rank_correlation=1.1), "the rank correlation"),
        (dataclasses.replace(WIDE, drawn_loss=-1.0), "points of AUROC of drawn defects are lost"),
    ],
)
def test_a_precision_that_fails_names_its_figures_and_writes_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: gate.Bounds, words: str
) -> None:
    patch_bounds(monkeypatch, {"fp16": bounds})
    with pytest.raises(ParityError, match=f"fp16 is not as good as fp32: .*{words}") as caught:
        export_bundle(TrainingRun.load(run_folder), tmp_path / "b", precisions=["fp16"])
    assert "calibration" in str(caught.value)  # without labelled images, and the table says so
    assert list(tmp_path.iterdir()) == []


def test_the_int8_part_of_a_run_is_no_run_to_export(bundle: Bundle, run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the INT8 part of a run; export that run with --int8"):
        export_bundle(TrainingRun.load(run_folder / INT8_FOLDER), tmp_path / "b")


def test_camera_frames_have_golden_frames_of_their_own(run_folder: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch_bounds(patch, {"int8": ANEW})
        camera = export_bundle(TrainingRun.load(run_folder), tmp_path / "b", precisions=["int8"], frame_hw=(120, 160))
    frames, golden = camera.golden("int8")
    assert frames.shape[1:] == (120, 160, 3)
    assert len(golden.score) == len(frames)
    with open_engine(camera, "openvino", "int8") as engine:
        assert verify(engine).passed


def with_record(run: TrainingRun, **changes: Any) -> TrainingRun:
    return dataclasses.replace(run, record=dataclasses.replace(run.record, **changes))


def test_calibration_images_are_the_runs_own_or_a_folder(run_folder: Path, parts: Path, tmp_path: Path) -> None:
    run = TrainingRun.load(run_folder)
    assert [sample.name for sample in calibration_images(run).samples] == list(run.record.split.calibration)
    good = parts / "train" / "good"
    assert len(calibration_images(run, good).samples) == len(list(good.iterdir()))
    sources = run.record.sources
    assert sources is not None
    gone = with_record(run, sources=dataclasses.replace(sources, calibration=(str(tmp_path / "gone.png"),)))
    changed = with_record(run, sources=dataclasses.replace(sources, fingerprint="0"))
    older = with_record(run, sources=None)
    for broken, words in ((gone, "are gone"), (changed, "not the ones"), (older, "does not say")):
        with pytest.raises(DataError, match=words) as caught:
            export_bundle(broken, tmp_path / "b", precisions=["int8"])
        assert "--calibration" in str(caught.value)
    with pytest.raises(ConfigError, match="no precision is called 'int4'"):
        export_bundle(run, tmp_path / "b", precisions=["int4"])


def test_few_parts_keep_the_threshold_that_other_models_set(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_bounds(monkeypatch, {"fp16": WIDE})
    run = TrainingRun.load(run_folder)
    point = dataclasses.replace(run.operating_point, folds=2, guaranteed=False)  # its images count as trained on
    few = export_bundle(dataclasses.replace(run, operating_point=point), tmp_path / "few", precisions=("fp16",))
    for record in few.manifest.precisions.values():
        assert record.operating_point == point
        assert record.score_statistics == run.score_statistics
