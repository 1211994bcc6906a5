"""`import simplenet_edge`: a dozen names, lazily, and the ten lines that they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import simplenet_edge as se

pytestmark = pytest.mark.slow

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "cv2", "numpy", "typer", "rich")
OPTIONS = se.TrainingOptions(
    backbone="resnet18", random_weights=True, size_hw=(64, 64), alpha=0.3, meta_epochs=1, memory=50
)


def test_from_images_to_a_line(parts: Path, tmp_path: Path) -> None:
    dataset = se.load_dataset(parts)
    told: list[str] = []
    run = se.train(
        dataset.train, tmp_path / "run", OPTIONS, seed=1, progress=lambda stage, done, total: told.append(stage)
    )
    assert run.record.train["seed"] == 1
    assert {"features", "training", "calibration"} <= set(told)
    evaluation, report = se.evaluate(tmp_path / "run", dataset)
    assert len(evaluation.images) == len(dataset.test)
    assert report.is_file()
    bundle = se.export_bundle(run, tmp_path / "run.bundle")
    assert se.Bundle(tmp_path / "run.bundle").id == bundle.id
    part = next(sample for sample in dataset.test if sample.defect is None)
    with se.open_engine(bundle) as engine:
        detector = se.Detector(engine)
        detection = detector.inspect(se.read_image(part.path))
        results = tmp_path / "results.jsonl"
        folders = [se.open_source(f"{folder}#name={folder.name}") for folder in sorted((parts / "test").iterdir())]
        summary = se.run_line(folders, detector, [se.JsonlSink(results)])
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert summary.frames == len(lines) == len(dataset.test)
    assert {line["camera"] for line in lines} == {folder.name for folder in (parts / "test").iterdir()}
    (of_part,) = (line for line in lines if line["camera"] == "good" and line["name"] == part.path.name)
    assert of_part["score"] == pytest.approx(detection.score)
    assert of_part["verdict"] == detection.verdict


def test_a_finished_run_is_returned_with_resume(parts: Path, tmp_path: Path) -> None:
    good = se.load_dataset(parts).train
    first = se.train(good, tmp_path / "run", OPTIONS)
    again = se.train(good, tmp_path / "run", OPTIONS, resume=True)
    assert again.calibration_scores == first.calibration_scores


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import simplenet_edge", HEAVY),
        ("import simplenet_edge; simplenet_edge.TrainingOptions()", ("torch", "cv2", "onnx")),
        ("from simplenet_edge import Bundle, Detector, JsonlSink, Line, open_engine, open_source, run_line", HEAVY[:4]),
    ],
)
def test_a_name_brings_no_more_than_it_needs(code: str, absent: tuple[str, ...]) -> None:
    code = f"{code}; import sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_and_nothing_else() -> None:
    assert set(se.__all__) <= set(dir(se))
    assert all(getattr(se, name) is not None for name in se.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        se.nonsense  # noqa: B018


def test_no_name_hides_a_subpackage() -> None:
    """An import of a subpackage sets its name on the root: a lazy name of the same spelling would be overwritten."""
    folder = Path(se.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules.isdisjoint(se.__all__)
