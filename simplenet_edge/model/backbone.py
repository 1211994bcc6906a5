"""The frozen feature extractor: a classifier of `model.architectures`, cut behind the layers that are asked for.

In: images float32 `(B, 3, H, W)` RGB, normalised. Out: a feature map `(B, C_l, h_l, w_l)` for each layer, in order.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.model.architectures import new_network, pretrained_state
from simplenet_edge.model.defaults import BACKBONE_DEFAULTS
from simplenet_edge.model.efficientnet_lite import SameConv2d
from simplenet_edge.model.geometry import receptive_fields

__all__ = ["RANDOM_WEIGHTS", "Backbone", "load_imagenet_weights", "load_weights_file"]

RANDOM_WEIGHTS = "random"
"""The `weights_source` of a backbone that nothing was loaded into."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema")  # under which training scripts save the tensors
_CLASSIFIER_TENSORS = 2  # the last layer's, which a training for other classes replaces
_PROBES_HW = ((64, 96), (128, 160))  # C must not change with the size, h and w must: tells (B, C, h, w) from others


class Backbone(nn.Module):
    """A network by name, as a function from images to feature maps. Weights are random, seeded by `seed`.

    `layers` are module paths such as `layer2` or `features.6`; what lies behind the last of them is not computed.
    `fields` says by layer where the middles of the receptive fields lie, `weights_source` where the weights are from.
    Raises ConfigError for an unknown name or layer, or a layer whose output is no feature map `(B, C, h, w)`.
    """

    def __init__(self, name: str, layers: tuple[str, ...], seed: int = 0) -> None:
        super().__init__()
        self.name = name
        self.layers = layers
        self.weights_source = RANDOM_WEIGHTS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = new_network(name)
        self.known_keys = frozenset(model.state_dict())
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]  # the next layer must not overwrite a feature map that we return
        _check_layers(name, model, layers)
        self.body = create_feature_extractor(
            model.eval(),
            return_nodes={layer: layer for layer in layers},
            tracer_kwargs={"leaf_modules": [SameConv2d]},
        )
        self.fields = receptive_fields(self.body)
        self.requires_grad_(False)
        self.eval()
        self._check_feature_maps()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode whatever the parent does: the backbone is frozen (paper, section 3.1)."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of the layers, in order."""
        features = self.body(images)
        return [features[layer] for layer in self.layers]

    @torch.no_grad()
    def feature_shapes(self, size_hw: tuple[int, int]) -> list[tuple[int, ...]]:
        """(C, h, w) of each layer for images of that size. Raises ConfigError where the model can't take it."""
        weight = next(self.body.parameters())
        try:
            return [tuple(feature.shape[1:]) for feature in self(weight.new_zeros(1, 3, *size_hw))]
        except (AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{self.name} can't run on images of {size_hw[0]}x{size_hw[1]}: {reason}") from error

    def _check_feature_maps(self) -> None:
        small, large = (self.feature_shapes(size_hw) for size_hw in _PROBES_HW)
        for layer, shape, other in zip(self.layers, small, large, strict=True):
            if len(shape) != 3 or shape[0] != other[0] or shape[1:] == other[1:]:
                raise ConfigError(
                    f"{self.name}: layer {layer} gives (B, {', '.join(map(str, shape))}) for images of "
                    f"{_PROBES_HW[0][0]}x{_PROBES_HW[0][1]}, expected a feature map (B, C, h, w); "
                    "choose a convolutional stage"
                )


def _check_layers(name: str, model: nn.Module, layers: tuple[str, ...]) -> None:
    known = [path for path, _ in model.named_modules() if path]
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=5, cutoff=0.3)
            stages = [path for path, _ in model.named_children()]
            raise ConfigError(
                f"{name} has no layer {layer!r}; near it are {', '.join(near) or 'none'}; "
                f"its stages are {', '.join(stages)}"
            )


def load_weights_file(backbone: Backbone, path: Path) -> None:
    """Load a torchvision state dict (`.pth`, read with `weights_only=True`) into the backbone. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; check the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a state dict that loads with weights_only=True ({reason})") from error
    while isinstance(state, dict) and (inner := next((k for k in _WRAPPERS if isinstance(state.get(k), dict)), None)):
        state = state[inner]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        found = type(state).__name__
        if isinstance(state, dict):
            found = f"the keys {', '.join(map(str, list(state)[:3]))}"
        raise WeightsError(
            f"{path}: expected a state dict of tensors, as it is or under one of {', '.join(_WRAPPERS)}, found "
            f"{found}; save model.state_dict() alone"
        )
    _load_state(backbone, _without_prefix(state, backbone.known_keys), path.name)


def _without_prefix(state: dict[str, Tensor], known: frozenset[str]) -> dict[str, Tensor]:
    """The tensors under the names that they have in the model itself: DataParallel and others put theirs before."""
    while state and known.isdisjoint(state):
        prefixes = {key.partition(".")[0] for key in state}
        if len(prefixes) > 1 or not all("." in key for key in state):
            break
        state = {key.partition(".")[2]: value for key, value in state.items()}
    split = {key: ".0.".join(key.rsplit(".", 1)) for key in state}  # a batch norm with activation, of timm
    return {key if key in known or split[key] not in known else split[key]: value for key, value in state.items()}


def load_imagenet_weights(backbone: Backbone) -> None:
    """Load the ImageNet weights that the backbone's source has, see `pretrained_state`. Raises WeightsError."""
    state, source = pretrained_state(backbone.name)
    _load_state(backbone, state, source)


def _load_state(backbone: Backbone, state: dict[str, Tensor], source: str) -> None:
    body = backbone.body
    needed = body.state_dict()
    counters = {key for key in needed if key.endswith("num_batches_tracked")}  # absent in old files, unused here
    missing = sorted(set(needed) - set(state) - counters)
    unknown = sorted(set(state) - backbone.known_keys)
    if missing or unknown:
        raise WeightsError(
            f"{source} does not fit {backbone.name}: {len(missing)} tensors missing ({', '.join(missing[:3]) or '-'}), "
            f"{len(unknown)} unknown ({', '.join(unknown[:3]) or '-'}); {_advice(state, backbone.name)}"
        )
    for key in sorted(set(needed) - counters):
        if state[key].shape != needed[key].shape:
            raise WeightsError(
                f"{source} does not fit {backbone.name}: {key} has shape {tuple(state[key].shape)}, "
                f"expected {tuple(needed[key].shape)}; {_advice(state, backbone.name)}"
            )
        if fault := _fault(state[key]):
            raise WeightsError(
                f"{source}: {key} is {fault}, expected dense finite floating-point numbers; save the float model's "
                "state_dict()"
            )
    body.load_state_dict({key: state.get(key, value) for key, value in needed.items()})
    backbone.weights_source = source


def _fault(weights: Tensor) -> str | None:
    """Why a tensor can't be weights; None where it can."""
    if weights.is_meta or weights.layout != torch.strided:
        return "not stored as plain numbers"
    if not weights.is_floating_point():
        return f"of {weights.dtype}"
    return None if weights.isfinite().all() else "not finite"


def _advice(state: dict[str, Tensor], wanted: str) -> str:
    """What to do about weights that don't fit `wanted`: which backbone they are of, where that is a known one."""
    shapes = {key: value.shape for key, value in state.items()}
    for name in BACKBONE_DEFAULTS:
        if name == wanted:
            continue
        with torch.device("meta"):
            needed = new_network(name).state_dict()
        others = [key for key, value in needed.items() if shapes.get(key) != value.shape and "num_batches" not in key]
        if len(others) <= _CLASSIFIER_TENSORS:
            return f"they are weights of {name}: pass --backbone {name}"
    return "if they are weights of another model, name it with --backbone"
