from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from simplenet_edge.bundle import Bundle
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.data.reading import read_frames
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import BundleError, ParityError
from simplenet_edge.export.exporter import export_bundle
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.training.run import ImageSources, TrainingRun

pytestmark = pytest.mark.slow


def test_the_bundle_gives_the_numbers_of_the_trained_model(run_folder: Path, bundle_path: Path, parts: Path) -> None:
    run = TrainingRun.load(run_folder)
    frames = np.stack([read.frame for read in read_frames(load_dataset(parts).test, run.model.input_spec)])
    expected = run.model.predict(frames)
    with open_engine(Bundle(bundle_path), "onnxruntime") as engine:
        found = engine.predict(frames)
    scale = np.ptp(expected.map)
    assert np.abs(found.score - expected.score).max() < 1e-5 * scale
    assert np.abs(found.map - expected.map).max() < 1e-5 * scale


def test_the_manifest_carries_the_evidence(run_folder: Path, bundle_path: Path) -> None:
    run, bundle = TrainingRun.load(run_folder), Bundle(bundle_path)
    record = bundle.record("fp32")
    assert record.operating_point == run.operating_point
    assert record.parity["onnx"]["verdict_flips"] == 0
    assert record.parity["onnx"]["score_max"] < record.tolerance
    assert set(record.parity["head_forms"]) == {"layer2", "layer3"}
    assert {"torch", "onnx", "onnxruntime", "simplenet-edge"} <= set(bundle.manifest.versions)
    frames, golden = bundle.golden()
    assert np.array_equal(frames[: len(run.golden_frames)], run.golden_frames)
    assert golden.score[-1] > golden.score[:-1].max()  # the frame of noise is like no part


def test_nothing_in_the_bundle_tells_of_the_machine(bundle_path: Path) -> None:
    for file in bundle_path.rglob("*"):
        if file.is_file():
            assert str(Path.home()).encode() + b"/" not in file.read_bytes(), file
            assert file.suffix in {".onnx", ".json", ".npy"}


def test_a_zip_is_the_same_bundle_in_one_file(run_folder: Path, bundle_path: Path, tmp_path: Path) -> None:
    packed = export_bundle(TrainingRun.load(run_folder), tmp_path / "parts.zip")
    assert packed.path.is_file()
    assert packed.graph() == Bundle(bundle_path).graph()


def test_an_existing_bundle_is_kept_unless_told(run_folder: Path, bundle_path: Path, tmp_path: Path) -> None:
    run, path = TrainingRun.load(run_folder), tmp_path / "kept.bundle"
    shutil.copytree(bundle_path, path)
    with pytest.raises(BundleError, match="--overwrite"):
        export_bundle(run, path)
    assert Bundle(path).id == Bundle(bundle_path).id
    assert export_bundle(run, path, name="other", overwrite=True).manifest.name == "other"


@pytest.mark.parametrize(
    ("folder", "image", "name"),
    [
        ("flange", "/data/parts/train/good/1.png", "flange"),  # a run that has a name
        ("run", "/data/parts/train/good/1.png", "parts"),  # MVTec AD
        ("Run_2", "/data/screws/1.png", "screws"),  # a folder of good parts
        ("run", "/data/VisA/candle/Data/Images/Normal/0000.JPG", "candle"),
        ("run", "/data/images/1.png", "run"),  # nothing better is known
        ("run", None, "run"),  # from before the images' places were kept
    ],
)
def test_a_bundle_has_a_name_that_tells_parts_apart(
    run_folder: Path, tmp_path: Path, folder: str, image: str | None, name: str
) -> None:
    run = TrainingRun.load(run_folder)
    sources = None if image is None else ImageSources((image,), "")
    record = dataclasses.replace(run.record, sources=sources)
    renamed = dataclasses.replace(run, folder=tmp_path / folder, record=record)
    assert export_bundle(renamed, tmp_path / "b").manifest.name == name


def test_no_bundle_is_written_when_the_proof_fails(run_folder: Path, tmp_path: Path) -> None:
    run = TrainingRun.load(run_folder)
    with torch.no_grad():
        run.model.discriminator.tail.weight.fill_(float("nan"))
    with pytest.raises(ParityError):
        export_bundle(run, tmp_path / "broken.bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_for_whole_camera_frames(run_folder: Path, bundle_path: Path, tmp_path: Path) -> None:
    bundle = export_bundle(TrainingRun.load(run_folder), tmp_path / "camera.bundle", frame_hw=(90, 160))
    assert bundle.frame_hw == (90, 160)
    apart = bundle.record().parity["frame_resize"]
    assert apart["verdict_flips"] == 0
    assert 0 <= apart["map_max"] < 0.05  # one grey level here and there
    images, _ = bundle.golden()
    with open_engine(bundle, "onnxruntime") as engine:
        verify(engine).require()
        found = Detector(engine).inspect(images[0])
    with open_engine(Bundle(bundle_path), "onnxruntime") as engine:
        expected = Detector(engine).inspect(images[0])  # resized on the CPU
    assert found.verdict == expected.verdict
    assert found.score == pytest.approx(expected.score, abs=0.05 * float(np.ptp(expected.map)))
