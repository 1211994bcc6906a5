from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.model.backbone import Backbone, load_imagenet_weights, load_weights_file

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "layers", "shapes"),
    [
        ("resnet18", ("layer2", "layer3"), [(128, 8, 12), (256, 4, 6)]),
        ("mobilenet_v2", ("features.13", "features.6"), [(96, 4, 6), (32, 8, 12)]),  # in the order asked
        ("vgg11", ("features.6",), [(256, 16, 24)]),
        ("convnext_tiny", ("features.3",), [(192, 8, 12)]),
        ("efficientnet_b0", ("features.3",), [(40, 8, 12)]),
    ],
)
def test_feature_maps_of_any_torchvision_model(
    name: str, layers: tuple[str, ...], shapes: list[tuple[int, int, int]]
) -> None:
    assert Backbone(name, layers).feature_shapes((64, 96)) == shapes


def test_equals_a_hook_on_the_whole_model() -> None:
    backbone = Backbone("vgg11", ("features.3",), seed=3)  # a convolution that an in-place ReLU follows
    torch.manual_seed(3)
    model = torchvision.models.vgg11(weights=None).eval()
    kept = []
    model.features[3].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        model.features(images)
        assert torch.equal(backbone(images)[0], kept[0])


def test_stays_frozen_and_in_evaluation_mode() -> None:
    backbone = Backbone("resnet18", ("layer1",)).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_seed_gives_one_backbone_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (Backbone("resnet18", ("layer1",), seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    key = "body.layer1.0.conv1.weight"
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet19", ("layer2",), "unknown backbone 'resnet19'.*resnet18"),
        ("resnet18", ("layer9",), "no layer 'layer9'.*layer1, layer2, layer3, layer4"),
        ("resnet18", ("avgpool",), "avgpool gives .* expected a feature map"),
        ("swin_t", ("features.1",), "features.1 gives .* expected a feature map"),  # (B, h, w, C)
        ("vit_b_16", ("encoder",), "can't run on images of 64x96"),
    ],
)
def test_refuses_what_gives_no_feature_map(name: str, layers: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, layers)


def test_loads_a_state_dict_of_the_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), path)
    backbone = Backbone("resnet18", ("layer1",))
    load_weights_file(backbone, path)
    assert torch.equal(backbone.state_dict()["body.conv1.weight"], model.conv1.weight)


def save_state(tmp_path: Path, state: object) -> Path:
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}, "optimizer": {}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model_state_dict": {f"module.model.{key}": value for key, value in state.items()}},
    ],
    ids=["state_dict", "model", "nested", "module.", "all of it"],
)
def test_loads_weights_as_training_scripts_save_them(wrap: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    backbone = Backbone("resnet18", ("layer1",))
    load_weights_file(backbone, save_state(tmp_path, wrap(state)))
    assert torch.equal(backbone.state_dict()["body.conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_weights_of_another_known_backbone_are_told(name: str, tmp_path: Path) -> None:
    state = torchvision.models.get_model(name, weights=None).state_dict()
    for model in ("wide_resnet50_2", "resnet18"):
        with pytest.raises(WeightsError, match=f"they are weights of {name}: pass --backbone {name}$"):
            load_weights_file(Backbone(model, ("layer1",)), save_state(tmp_path, state))


@pytest.mark.parametrize("state", [{}, {0: torch.zeros(1)}, {"a.b": 1}, {"module": {}}, {"model": {"model": {}}}])
def test_dicts_of_anything_else_are_refused(state: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        load_weights_file(Backbone("resnet18", ("layer1",)), save_state(tmp_path, state))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda weights: weights.to(torch.int8), "of torch.int8"),
        (lambda weights: weights.to(torch.complex64), "of torch.complex64"),
        (lambda weights: weights.to("meta"), "not stored as plain numbers"),
        (lambda weights: weights * float("nan"), "not finite"),
    ],
)
def test_refuses_tensors_that_are_no_weights(
    changed: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    state = torchvision.models.resnet18().state_dict()
    torch.save({**state, "conv1.weight": changed(state["conv1.weight"])}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=f"conv1.weight is {message}"):
        load_weights_file(Backbone("resnet18", ("layer1",)), tmp_path / "weights.pth")


def test_refuses_weights_that_do_not_fit(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", ("layer1",))
    state = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights_file(backbone, tmp_path / "absent.pth")
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="weights_only"):
        load_weights_file(backbone, garbage)
    with pytest.raises(WeightsError, match=r"1 tensors missing \(conv1\.weight\)"):
        load_weights_file(backbone, save_state(tmp_path, {k: v for k, v in state.items() if k != "conv1.weight"}))
    with pytest.raises(WeightsError, match="unknown"):
        load_weights_file(backbone, save_state(tmp_path, torchvision.models.resnet50(weights=None).state_dict()))
    with pytest.raises(WeightsError, match=r"conv1\.weight has shape"):
        load_weights_file(backbone, save_state(tmp_path, {**state, "conv1.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match="found list"):
        load_weights_file(backbone, save_state(tmp_path, [1, 2]))


def test_without_a_network_the_error_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(WeightsError, match=r"--weights FILE.*resnet18-\w+\.pth put at .*efficientnet_lite0"):
        load_imagenet_weights(Backbone("resnet18", ("layer1",)))
