"""Lessons on a bundle of a real training run, through the graphs themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.bundle import Bundle, golden_files, write_bundle
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import BundleError, DataError, EngineError, EngineInputError, LessonRefused
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.teach.graph_memory import GraphMemory
from simplenet_edge.runtime.teach.lesson import read_lessons
from simplenet_edge.runtime.teach.teach import MarkedPictures, Picture, taught_path, teach
from simplenet_edge.spec import Frames
from tests.bundles import write_tiny_bundle


def with_label(image: Frames) -> Frames:
    """The same part with a label on it that the model has never seen."""
    labelled = image.copy()
    cv2.rectangle(labelled, (40, 40), (56, 54), (235, 235, 235), cv2.FILLED)
    cv2.line(labelled, (42, 47), (54, 47), (20, 20, 20), 2)
    return labelled


@pytest.fixture(scope="module")
def two_models(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle, with a second precision that is a model of its own, as INT8 is."""
    opened = Bundle(bundle_path)
    frames, said = opened.golden()
    files = {name: opened.read_bytes(name) for name in opened.manifest.files}
    files["model.int8.onnx"] = files["model.fp32.onnx"]
    files |= golden_files(frames, said, {"int8": said})
    fp32 = dataclasses.replace(opened.record(), metrics={"image_auroc": 0.9})
    own = dataclasses.replace(fp32, graph="model.int8.onnx")
    manifest = dataclasses.replace(opened.manifest, precisions={"fp32": fp32, "int8": own})
    return write_bundle(tmp_path_factory.mktemp("two") / "two.zip", manifest, files)


@pytest.fixture(scope="module")
def labelled(two_models: Bundle, parts: Path) -> list[Picture]:
    """Good parts with a label, which the model rejects."""
    images = [with_label(read_image(sample.path)) for sample in load_dataset(parts).train[:6]]
    found = [Picture(f"part {i}", image) for i, image in enumerate(images) if verdict(two_models, image) == "NG"]
    assert len(found) >= 3
    return found


def verdict(bundle: Bundle, image: Frames, precision: str = "fp32") -> str:
    with open_engine(bundle, "onnxruntime", precision) as engine:
        return Detector(engine).inspect(image).verdict


def broken(parts: Path) -> list[Picture]:
    """Parts with a large hole."""
    images = [read_image(sample.path) for sample in load_dataset(parts).train[:2]]
    for image in images:
        cv2.circle(image, (30, 60), 14, (0, 0, 255), cv2.FILLED)
    return [Picture(f"broken {i}", image) for i, image in enumerate(images)]


def test_a_lesson_makes_marked_parts_pass_in_every_precision_and_keeps_the_rest(
    two_models: Bundle, labelled: list[Picture], parts: Path, tmp_path: Path
) -> None:
    taught, lesson = teach(two_models, MarkedPictures(labelled[:2], broken(parts)), tmp_path / "taught", by="Ada")
    for precision in ("fp32", "int8"):
        assert [verdict(taught, one.image, precision) for one in labelled[:2]] == ["OK", "OK"]
        with open_engine(taught, "onnxruntime", precision) as engine:
            assert verify(engine, tolerance=1e-6).passed
        assert two_models.record(precision).metrics
        assert taught.record(precision) == dataclasses.replace(two_models.record(precision), metrics={})
        assert 0 < lesson.patches[precision] == 256 - lesson.spare[precision]
    assert (lesson.number, lesson.by, lesson.parent) == (1, "Ada", two_models.id)
    assert read_lessons(taught) == (lesson,)
    for one in lesson.pictures:
        assert all(one.after[name] <= one.before[name] for name in lesson.thresholds)
    shown = cv2.imdecode(np.frombuffer(taught.read_bytes(lesson.pictures[0].file), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown, preprocess(labelled[0].image, two_models.manifest.input))


def test_lessons_follow_each_other_and_name_their_parent(
    two_models: Bundle, labelled: list[Picture], tmp_path: Path
) -> None:
    first, _ = teach(two_models, MarkedPictures(labelled[:1]), tmp_path / "line-lesson1", by="Ada")
    assert taught_path(first) == tmp_path / "line-lesson2"
    assert taught_path(two_models).name == "two-lesson1.zip"
    rest = [one for one in labelled[1:] if verdict(first, one.image) == "NG"]
    second, lesson = teach(first, MarkedPictures(rest), taught_path(first), by="Bob")
    assert [one.parent for one in read_lessons(second)] == [two_models.id, first.id]
    assert lesson.spare["fp32"] < read_lessons(first)[0].spare["fp32"]


def test_a_lesson_that_lets_a_bad_or_a_kept_part_pass_is_refused_with_its_picture(
    two_models: Bundle, labelled: list[Picture], tmp_path: Path
) -> None:
    alike = Picture("its twin", labelled[0].image.copy())
    alike.image[:2, :2] ^= 1  # another picture of the same part
    for marked in (MarkedPictures(labelled[:1], bad=[alike]), MarkedPictures(labelled[:1], kept=[alike])):
        with pytest.raises(LessonRefused, match="its twin") as refused:
            teach(two_models, marked, tmp_path / "taught", by="Ada")
        assert refused.value.pictures == ("its twin",)
    assert not (tmp_path / "taught").exists()


def test_a_kept_picture_that_is_marked_good_is_no_obstacle(
    two_models: Bundle, labelled: list[Picture], tmp_path: Path
) -> None:
    marked = MarkedPictures(labelled[:1], kept=[Picture("kept", labelled[0].image)])
    _, lesson = teach(two_models, marked, tmp_path / "taught", by="Ada")
    assert lesson.kept == 0


def test_a_bad_part_that_passes_is_evidence_and_lowers_nothing(two_models: Bundle, parts: Path, tmp_path: Path) -> None:
    good = next(
        image
        for image in (read_image(sample.path) for sample in load_dataset(parts).train)
        if verdict(two_models, image) == "OK"
    )
    taught, lesson = teach(two_models, MarkedPictures([], [Picture("missed", good)]), tmp_path / "taught", by="Ada")
    assert [one.name for one in lesson.missed] == ["missed"]
    assert taught.graph() == two_models.graph()
    assert taught.record() == two_models.record()
    assert set(lesson.patches.values()) == {0}


def test_what_can_not_be_taught_says_why(
    two_models: Bundle, labelled: list[Picture], parts: Path, tmp_path: Path
) -> None:
    good = next(
        Picture("fine", image)
        for image in (read_image(sample.path) for sample in load_dataset(parts).train)
        if verdict(two_models, image) == "OK"
    )
    twice = MarkedPictures(labelled[:1], [labelled[0]])
    grey = Picture("grey", labelled[0].image[..., 0])
    for marked, error, text in (
        (MarkedPictures([good]), LessonRefused, "nothing to learn"),
        (MarkedPictures([]), DataError, "found none"),
        (twice, DataError, "marked good and bad"),
        (MarkedPictures([grey]), EngineInputError, "uint8"),
    ):
        with pytest.raises(error, match=text):
            teach(two_models, marked, tmp_path / "taught", by="Ada")
    assert not (tmp_path / "taught").exists()
    with pytest.raises(BundleError, match="no memory"):
        teach(write_tiny_bundle(tmp_path / "tiny"), MarkedPictures([good]), tmp_path / "taught", by="Ada")
    (tmp_path / "taken").mkdir()
    with pytest.raises(BundleError, match="exists"):
        teach(two_models, MarkedPictures(labelled), tmp_path / "taken", by="Ada")


def test_a_damaged_lesson_is_refused(two_models: Bundle, labelled: list[Picture], tmp_path: Path) -> None:
    taught, lesson = teach(two_models, MarkedPictures(labelled[:1]), tmp_path / "taught", by="Ada")
    files = {name: taught.read_bytes(name) for name in taught.manifest.files}
    whole = lesson.to_dict()
    for damaged in ({**whole, "number": "one"}, {**whole, "pictures": 3}, {}, {**whole, "pictures": [{"file": "x"}]}):
        files["lessons/1/lesson.json"] = json.dumps(damaged).encode()
        bundle = write_bundle(tmp_path / "damaged", taught.manifest, files, overwrite=True)
        with pytest.raises(BundleError, match=r"lesson\.json is damaged"):
            read_lessons(bundle)
    del files["lessons/1/good-1.png"]
    files["lessons/1/lesson.json"] = json.dumps(whole).encode()
    with pytest.raises(BundleError, match="not in the bundle"):
        read_lessons(write_bundle(tmp_path / "damaged", taught.manifest, files, overwrite=True))


def test_a_full_memory_learns_no_more(two_models: Bundle, labelled: list[Picture], tmp_path: Path) -> None:
    files = {name: two_models.read_bytes(name) for name in two_models.manifest.files}
    for name in ("model.fp32.onnx", "model.int8.onnx"):
        memory = GraphMemory(files[name])
        files[name] = memory.with_patches(np.full((memory.spare, memory.dim), 1e3, np.float32))  # near no part
    full = write_bundle(tmp_path / "full", two_models.manifest, files)
    with pytest.raises(LessonRefused, match="room for 0 more patches") as refused:
        teach(full, MarkedPictures(labelled[:1]), tmp_path / "taught", by="Ada")
    assert refused.value.pictures == (labelled[0].name,)


def test_a_graph_that_onnx_runtime_refuses_is_an_error_of_ours(
    two_models: Bundle, labelled: list[Picture], tmp_path: Path
) -> None:
    files = {name: two_models.read_bytes(name) for name in two_models.manifest.files}
    files["model.fp32.onnx"] = files["model.fp32.onnx"].replace(b"MatMul", b"MatMux")
    broken = write_bundle(tmp_path / "broken", two_models.manifest, files)
    with pytest.raises(EngineError, match="export again"):
        teach(broken, MarkedPictures(labelled[:1]), tmp_path / "taught", by="Ada")
