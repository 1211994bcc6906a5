"""What is written for Triton, every field read by Triton's own schema; `test_contract` gives it to a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import engine_problem
from simplenet_edge.engines.tensorrt.builder import BatchProfile
from simplenet_edge.engines.tensorrt.engine import TensorRTEngine
from simplenet_edge.errors import BundleError, ConfigError, DataError, EngineUnavailable, SimpleNetEdgeError
from simplenet_edge.serving.triton_repository import write_model
from simplenet_edge.spec import InputSpec, OperatingPoint
from tests.bundles import HEIGHT, THRESHOLD, WIDTH, tiny_record, write_tiny_bundle
from tests.engines.conftest import (
    Simulate,
    simulate,  # noqa: F401 - a fixture
)
from tests.faults import no_file_beyond, outcomes


def config_of(model: Path, name: str = "config.pbtxt") -> Any:
    return text_format.Parse((model / name).read_text(), schema.ModelConfig())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def other_bundle(path: Path) -> Bundle:
    return write_tiny_bundle(path, operating_point=OperatingPoint(20.0, 0.05, 40, True))


def test_every_field_is_one_of_triton_s(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_model(bundle, tmp_path / "repository")
    assert folder == tmp_path / "repository" / "tiny" / "1"
    config = config_of(folder.parent)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 8)
    assert config.default_model_filename == "model.onnx"
    (frames,) = config.input
    assert (frames.name, frames.data_type, list(frames.dims)) == ("frames", schema.TYPE_UINT8, [HEIGHT, WIDTH, 3])
    score, anomaly_map = config.output
    assert (score.name, score.data_type, list(score.dims)) == ("score", schema.TYPE_FP32, [1])
    assert score.HasField("reshape")
    assert list(score.reshape.shape) == []
    assert (anomaly_map.name, anomaly_map.data_type) == ("map", schema.TYPE_FP32)
    assert list(anomaly_map.dims) == [HEIGHT, WIDTH]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert config.version_policy.latest.num_versions == 2
    assert [warm.batch_size for warm in config.model_warmup] == [1, 8]
    for warm in config.model_warmup:
        tensor = warm.inputs["frames"]
        assert (tensor.data_type, list(tensor.dims), tensor.zero_data) == (schema.TYPE_UINT8, [HEIGHT, WIDTH, 3], True)
    assert not config.HasField("optimization")
    assert config.parameters["bundle_id"].string_value == config.parameters["bundle_id.1"].string_value == bundle.id
    assert float(config.parameters["threshold"].string_value) == THRESHOLD
    for device, kind in (("cpu", schema.ModelInstanceGroup.KIND_CPU), ("gpu", schema.ModelInstanceGroup.KIND_GPU)):
        special = config_of(folder.parent, f"configs/{device}.pbtxt")
        assert [group.kind for group in special.instance_group] == [kind]
        special.ClearField("instance_group")
        assert special == config
    assert (folder / "model.onnx").read_bytes() == bundle.graph()


def test_golden_frames_lie_beside_the_model(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_model(bundle, tmp_path)
    frames, golden = bundle.golden()
    for name, expected in (("frames", frames), ("score", golden.score), ("map", golden.map)):
        np.testing.assert_array_equal(np.load(folder / "golden" / f"{name}.npy"), expected)
    about = json.loads((folder / "simplenet-edge.json").read_text())
    assert (about["bundle_id"], about["threshold"], about["tolerance"]) == (bundle.id, THRESHOLD, 1e-4)


def test_earlier_versions_stay(bundle: Bundle, tmp_path: Path) -> None:
    repository, second = tmp_path / "repository", other_bundle(tmp_path / "second")
    first = write_model(bundle, repository, max_batch=16)
    before = files_of(first)
    assert write_model(second, repository).name == "2"
    assert files_of(first) == before
    config = config_of(first.parent)
    assert config.max_batch_size == 16
    found = {key: value.string_value for key, value in config.parameters.items()}
    assert found == {
        "bundle_id": second.id,
        "bundle_id.1": bundle.id,
        "bundle_id.2": second.id,
        "precision": "fp32",
        "precision.1": "fp32",
        "precision.2": "fp32",
        "threshold": "20.0",
        "threshold.1": str(THRESHOLD),
        "threshold.2": "20.0",
    }
    assert write_model(bundle, repository, version=7).name == "7"
    assert write_model(second, repository, version=4, name="other").parent.name == "other"
    assert sorted(path.name for path in repository.iterdir()) == ["other", "tiny"]  # each folder is a model to Triton
    assert sorted(path.name for path in first.parent.iterdir()) == ["1", "2", "7", "config.pbtxt", "configs"]


def test_the_newest_version_is_written_once(bundle: Bundle, tmp_path: Path) -> None:
    """As after a kill between its folder and the configuration."""
    folder = write_model(bundle, tmp_path)
    before = files_of(folder.parent)
    (folder.parent / "config.pbtxt").unlink()
    assert write_model(bundle, tmp_path) == write_model(bundle, tmp_path, version=1) == folder
    assert files_of(folder.parent) == before
    write_model(bundle, tmp_path, max_batch=4)
    assert config_of(folder.parent).max_batch_size == 4


def test_int8_keeps_its_steps(tmp_path: Path) -> None:
    """ONNX Runtime's higher levels put kernels in their place that round otherwise."""
    records = {"fp32": tiny_record(), "int8": tiny_record(tolerance=0.03)}
    bundle = write_tiny_bundle(tmp_path / "both", precisions=records)
    assert config_of(write_model(bundle, tmp_path / "r", precision="int8").parent).optimization.graph.level == -1


def test_what_is_refused_changes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    other = other_bundle(tmp_path / "other")
    wide = write_tiny_bundle(tmp_path / "wide", input=InputSpec(HEIGHT, WIDTH), frame_hw=(64, 96))
    repository = tmp_path / "repository"
    write_model(bundle, repository)
    (repository / "foreign" / "1").mkdir(parents=True)
    (repository / "edited").mkdir()
    (repository / "edited" / "config.pbtxt").write_text("max_batch_size: 4")
    (repository / "file").write_text("")
    before = files_of(repository)
    refused: list[tuple[Bundle, dict[str, Any], type[SimpleNetEdgeError], str]] = [
        (other, {"version": 1}, ConfigError, "holds another bundle"),
        (other, {"version": 0}, ConfigError, "versions are 1, 2"),
        (wide, {}, ConfigError, r"frame_hw \(32, 48\), this one \(64, 96\)"),
        (other, {"name": "foreign"}, ConfigError, "not of this command"),
        (other, {"name": "edited"}, ConfigError, "not of this command"),
        (other, {"name": "file"}, ConfigError, "can't be read"),
        (other, {"name": "../x"}, ConfigError, "a model's name"),
        (other, {"name": 'x"'}, ConfigError, "a model's name"),
        (other, {"max_batch": 0}, ConfigError, "from 1 to 1024"),
        (other, {"backend": "openvino"}, ConfigError, "onnxruntime or tensorrt"),
        (other, {"precision": "fp16"}, BundleError, "no fp16 graph"),
    ]
    for one, options, error, text in refused:
        with pytest.raises(error, match=text):
            write_model(one, repository, **options)
    assert files_of(repository) == before
    with pytest.raises(DataError, match="can't be written"):
        write_model(bundle, repository / "file" / "deeper")


def test_a_disk_that_refuses_changes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    repository, second = tmp_path / "repository", other_bundle(tmp_path / "second")
    write_model(bundle, repository)
    before = files_of(repository)
    for name in ("tiny", "new"):
        with no_file_beyond(3000), pytest.raises(DataError, match="can't be written"):
            write_model(second, repository, name=name)
        assert files_of(repository) == before
    assert [path.name for path in repository.iterdir()] == ["tiny"]


def test_a_kill_at_any_step_leaves_what_the_next_try_completes() -> None:
    found = outcomes(Path(__file__).with_name("kill_triton_writers.py"))
    assert found["old"] > 3  # kills before the second version was there
    assert found["new"] > 3  # and after


def test_tensorrt_takes_the_plan_of_this_device(tmp_path: Path, simulate: Simulate) -> None:  # noqa: F811
    bundle = write_tiny_bundle(tmp_path / "tiny")
    opened = simulate()
    with pytest.raises(SimpleNetEdgeError, match=r"expected a fp32 plan of tensorrt .* found none; run: .* build"):
        write_model(bundle, tmp_path / "r", backend="tensorrt")
    with TensorRTEngine(bundle, profile=BatchProfile(1, 4)) as engine:
        plan = engine.require_plan()
    with pytest.raises(ConfigError, match="at most 4 frames, not 8"):
        write_model(bundle, tmp_path / "r", backend="tensorrt", max_batch=8)
    assert not (tmp_path / "r").exists()
    folder = write_model(bundle, tmp_path / "r", backend="tensorrt")
    assert (folder / "model.plan").read_bytes() == plan.read()
    config = config_of(folder.parent)
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("tensorrt", "model.plan", 4)
    assert [path.name for path in (folder.parent / "configs").iterdir()] == ["gpu.pbtxt"]
    assert all(memory.closed for memory in opened)
    with pytest.raises(ConfigError, match="has backend tensorrt, this one onnxruntime"):
        write_model(bundle, tmp_path / "r", version=2)


def test_tensorrt_without_a_gpu(bundle: Bundle, tmp_path: Path) -> None:
    if engine_problem("tensorrt") is None:
        pytest.skip("TensorRT runs here")
    with pytest.raises(EngineUnavailable):
        write_model(bundle, tmp_path / "r", backend="tensorrt")
    assert not (tmp_path / "r").exists()
