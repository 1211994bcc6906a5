"""The embedder gives the rows of the model that it is of, whatever the backbone, the layers and the alignment."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from simplenet_edge.model import embedder
from simplenet_edge.model.embedder import Embedder, FastPredictor, FrameEmbedder
from simplenet_edge.model.onnx_graph import onnx_graph
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import SimpleNetConfig
from simplenet_edge.system import resident_bytes
from tests.models import int8_model, random_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "config",
    [
        SimpleNetConfig(
            "efficientnet_lite0", ("blocks.2", "blocks.3", "blocks.4"), 232, 232, alignment="receptive-field"
        ),
        SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 100, 90),  # windows that overlap
        SimpleNetConfig("resnet18", ("layer2", "layer3"), 384, 384, patch_stride=2),
        SimpleNetConfig("resnet18", ("layer2",), 200, 64, patch_size=1),
    ],
    ids=str,
)
def test_rows_are_the_models(config: SimpleNetConfig) -> None:
    model = random_model(config, (64, 96))
    images = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        expected, found = model.embed(images), Embedder(model)(images)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_predictions_are_the_models(rng: np.random.Generator) -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 64, 64, score_top_k=9, memory_size=20)
    model = random_model(config, (64, 96))
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected, found = model.predict(frames), FastPredictor(model).predict(frames)
    assert np.abs(found.map - expected.map).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(found.score - expected.score).max() < 1e-4 * np.ptp(expected.map)


def test_the_model_stays_as_it_was() -> None:
    model = random_model(SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32), (64, 96))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Embedder(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(model.parameters()).is_contiguous()


def engine_embedder(model: SimpleNet, monkeypatch: pytest.MonkeyPatch) -> FrameEmbedder:
    monkeypatch.setattr(embedder, "EXPORT_PIXELS", 0)
    return FrameEmbedder(model)


@pytest.mark.parametrize(
    ("config", "size_hw"),
    [
        (SimpleNetConfig("efficientnet_lite0", ("blocks.1", "blocks.4"), 100, 90, patch_stride=2), (96, 64)),  # pads
        (SimpleNetConfig("efficientnet_lite0", ("blocks.2", "blocks.3"), 64, 64), (97, 131)),
        (SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 100, 90), (75, 110)),  # windows that overlap
        (SimpleNetConfig("mobilenet_v2", ("features.3",), 32, 32, patch_size=1), (64, 96)),
        (
            SimpleNetConfig(
                "efficientnet_lite1", ("blocks.2", "blocks.3", "blocks.4"), 99, 99, alignment="receptive-field"
            ),
            (96, 160),  # `Resize`
        ),
    ],
    ids=str,
)
def test_onnx_runtime_gives_the_same_rows_in_any_batch(
    config: SimpleNetConfig, size_hw: tuple[int, int], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(config, size_hw)
    fast, plain = engine_embedder(model, monkeypatch), Embedder(model)
    assert fast.engine == "onnxruntime"
    frames = rng.integers(0, 256, (8, *size_hw, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = plain(model.normalize(torch.from_numpy(frames)))
    rows = fast(frames)
    assert rows.shape == expected.shape
    assert (rows - expected).abs().max() < 1e-4 * (expected.max() - expected.min())
    one, five = rows.reshape(8, -1, config.target_embed_dim)[[0]], rows.reshape(8, -1, config.target_embed_dim)[:5]
    assert torch.equal(fast(frames[:1]), one.flatten(0, 1))
    assert torch.equal(fast(frames[:5]), five.flatten(0, 1))  # a last, smaller batch
    assert torch.equal(engine_embedder(model, monkeypatch)(frames), rows)  # exported again, as where a run resumes


def test_predictions_of_another_head_on_the_same_backbone(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimpleNetConfig("mobilenet_v2", ("features.6", "features.13"), 64, 64, memory_size=20)
    shared = engine_embedder(random_model(config), monkeypatch)
    other = random_model(config, seed=1)
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected, found = other.predict(frames), FastPredictor(other, shared).predict(frames)
    assert np.abs(found.map - expected.map).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(found.score - expected.score).max() < 1e-4 * np.ptp(expected.map)


MOBILE = SimpleNetConfig("mobilenet_v2", ("features.6",), 32, 32)


@pytest.mark.parametrize(
    ("config", "pixels", "engine"),
    [
        (MOBILE, 1.0, "onnxruntime"),
        (MOBILE, 0.99, "pytorch"),  # too few to pay for the export
        (SimpleNetConfig("resnet18", ("layer2",), 32, 32), 1000.0, "pytorch"),  # as fast there
    ],
    ids=str,
)
def test_onnx_runtime_only_where_it_pays(
    config: SimpleNetConfig, pixels: float, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "EXPORT_PIXELS", 100 * 64 * 96)
    n_frames = int(100 * pixels * torch.get_num_threads())
    assert FrameEmbedder(random_model(config), n_frames).engine == engine


def test_int8_stays_in_pytorch(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    model = int8_model(random_model(MOBILE), frames)
    fast = engine_embedder(model, monkeypatch)
    assert fast.engine == "pytorch"
    with torch.inference_mode():
        assert torch.equal(fast(frames), Embedder(model)(model.normalize(torch.from_numpy(frames))))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_a_package_pytorch_computes_and_says_nothing(
    package: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedder, "find_spec", lambda name: None if name == package else find_spec(name))
    assert engine_embedder(random_model(MOBILE), monkeypatch).engine == "pytorch"
    assert not caplog.messages


@pytest.mark.parametrize("fault", ["broken package", "other rows"])
def test_an_engine_that_cannot_be_used_is_said_once(
    fault: str,
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = random_model(MOBILE)
    if fault == "broken package":
        (tmp_path / "onnxruntime.py").write_text("raise OSError('libonnxruntime.so: file too short')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    else:
        monkeypatch.setattr(embedder, "onnx_graph", lambda module, *names, free_batch: wrong_graph(module, *names))
    fast = engine_embedder(model, monkeypatch)
    frames = rng.integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = Embedder(model)(model.normalize(torch.from_numpy(frames)))
    assert torch.equal(fast(frames), expected)
    assert torch.equal(fast(frames), expected)
    assert "features are computed in PyTorch" in only_warning(caplog)


def only_warning(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = (record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    return message


def wrong_graph(module: torch.nn.Module, example: torch.Tensor, name: str, outputs: list[str]) -> onnx.ModelProto:
    graph = onnx_graph(module, example, name, outputs, free_batch=False)
    biases = next(one for one in graph.graph.initializer if one.dims == [32])
    biases.CopyFrom(onnx.numpy_helper.from_array(1 + onnx.numpy_helper.to_array(biases), biases.name))
    return graph


def test_an_engine_that_fails_between_frames_hands_over(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model(MOBILE)
    fast = engine_embedder(model, monkeypatch)
    small = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)  # which the graph refuses
    assert len(fast(small)) == len(fast(small)) == 2 * 4 * 6
    assert fast.engine == "pytorch"
    assert "ONNX Runtime failed" in only_warning(caplog)


def test_memory_stays_flat(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = engine_embedder(random_model(MOBILE), monkeypatch)
    frames = rng.integers(0, 256, (8, 64, 96, 3), dtype=np.uint8)
    for _ in range(20):
        fast(frames)
    before = resident_bytes()
    assert before is not None
    for _ in range(250):
        fast(frames)
    after = resident_bytes()
    assert after is not None
    assert after - before < 20 * 2**20  # the rows of these 2000 frames are 24 MB, a leak of features more
