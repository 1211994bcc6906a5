from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.official import load_official_checkpoint
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, SimpleNetConfig


@pytest.fixture
def model() -> SimpleNet:
    model = build_simplenet("resnet18", random_weights=True, size_hw=(64, 96))
    model.standardizer.mean.copy_(torch.linspace(-1, 1, 384))
    return model


def frames(rng: np.random.Generator, count: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return rng.integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def test_normalize_turns_bgr_to_rgb(model: SimpleNet) -> None:
    blue = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
    blue[..., 0] = 255
    pixel = model.normalize(blue)[0, :, 0, 0]
    expected = (torch.tensor([0.0, 0.0, 1.0]) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert torch.allclose(pixel, expected)


@pytest.mark.parametrize("top_k", [1, 9, 10**6])  # the last one is more than there are
def test_score_is_the_mean_of_the_largest_patch_scores(model: SimpleNet, rng: np.random.Generator, top_k: int) -> None:
    batch = frames(rng)
    other = SimpleNet(dataclasses.replace(model.config, score_top_k=top_k), model.input_spec, model.backbone)
    other.load_state_dict(model.state_dict())
    other.eval()
    with torch.inference_mode():
        patches = other.score_patches(other.embed(other.normalize(torch.from_numpy(batch)))).reshape(2, -1).numpy()
    expected = np.sort(patches, axis=1)[:, -top_k:].mean(axis=1)
    np.testing.assert_allclose(other.predict(batch).score, expected, rtol=1e-6)
    if top_k == 1:
        assert np.array_equal(other.predict(batch).score, patches.max(axis=1))


def test_predict_is_the_same_in_any_mode_and_restores_it(model: SimpleNet, rng: np.random.Generator) -> None:
    batch = frames(rng)
    first = model.train().predict(batch)
    assert model.training
    assert np.array_equal(model.eval().predict(batch).score, first.score)
    assert first.score.dtype == first.map.dtype == np.float32
    assert first.map.shape == (2, 64, 96)


def test_saves_and_loads_to_the_bit(model: SimpleNet, rng: np.random.Generator, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = SimpleNet.load(tmp_path)
    assert (again.config, again.input_spec) == (model.config, model.input_spec)
    batch = frames(rng)
    assert np.array_equal(again.predict(batch).map, model.predict(batch).map)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_refuses_a_damaged_model(model: SimpleNet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is it a training run"):
        SimpleNet.load(tmp_path)
    model.save(tmp_path)
    config = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(
        json.dumps({**config, "model": {**config["model"], "discriminator_hidden": 100}})
    )
    with pytest.raises(WeightsError, match=r"do not fit model\.json"):
        SimpleNet.load(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        SimpleNet.load(tmp_path)


def test_a_stride_and_a_patch_size_of_5(rng: np.random.Generator) -> None:
    config = SimpleNetConfig(
        "resnet18", ("layer1", "layer3"), 32, 24, patch_size=5, patch_stride=2, discriminator_hidden=8
    )
    model = SimpleNet(config, InputSpec(64, 96), Backbone("resnet18", ("layer1", "layer3")))
    assert model.grid_hw == (8, 12)
    assert model.predict(frames(rng)).map.shape == (2, 64, 96)


def test_refuses_another_backbone_than_configured() -> None:
    config = SimpleNetConfig("resnet18", ("layer2",))
    with pytest.raises(ConfigError, match="not the one of the configuration"):
        SimpleNet(config, InputSpec(64, 64), Backbone("resnet18", ("layer1",)))


def test_an_unknown_backbone_needs_layers() -> None:
    with pytest.raises(ConfigError, match="--layers"):
        build_simplenet("resnet34", random_weights=True)
    assert build_simplenet("resnet34", layers=("layer2",), random_weights=True).grid_hw == (32, 32)


class TestOfficialCheckpoint:
    def config(self, **changes: object) -> SimpleNetConfig:
        values = {"standardize": False, "discriminator_hidden": 8, "pretrain_embed_dim": 16, "target_embed_dim": 16}
        return SimpleNetConfig("resnet18", ("layer2",), **{**values, **changes})  # type: ignore[arg-type]

    def model(self, **changes: object) -> SimpleNet:
        return SimpleNet(self.config(**changes), InputSpec(64, 64), Backbone("resnet18", ("layer2",)))

    def test_refuses_what_is_no_official_model(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="standardize=False"):
            load_official_checkpoint(self.model(standardize=True), tmp_path / "ckpt.pth")
        with pytest.raises(ConfigError, match="projection_batch_norm=False"):
            load_official_checkpoint(self.model(projection_type=1), tmp_path / "ckpt.pth")

    def test_refuses_a_file_that_does_not_fit(self, tmp_path: Path) -> None:
        model, path = self.model(), tmp_path / "ckpt.pth"
        with pytest.raises(WeightsError, match="no such checkpoint"):
            load_official_checkpoint(model, path)
        torch.save({"discriminator": model.discriminator.state_dict()}, path)
        with pytest.raises(WeightsError, match="expected discriminator and pre_projection, found discriminator"):
            load_official_checkpoint(model, path)
        other = self.model(discriminator_hidden=4)
        torch.save(
            {"discriminator": other.discriminator.state_dict(), "pre_projection": other.pre_projection.state_dict()},
            path,
        )
        with pytest.raises(WeightsError, match="discriminator does not fit"):
            load_official_checkpoint(model, path)
