"""Small SimpleNets with every parameter random: what the algebra must hold for."""

from __future__ import annotations

import functools

import torch
from torch import nn

from simplenet_edge.model import int8
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.quantization import step_to
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import Frames, InputSpec, SimpleNetConfig


def random_model(
    config: SimpleNetConfig, size_hw: tuple[int, int] = (64, 96), seed: int = 0, dtype: torch.dtype = torch.float32
) -> SimpleNet:
    """A model in evaluation mode whose batch norms, biases, standardisation and memory are random too."""
    backbone = random_backbone(config.backbone, config.layers, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SimpleNet(config, InputSpec(*size_hw), backbone)
    generator = torch.Generator().manual_seed(seed)
    for network in (model.pre_projection, model.discriminator):
        _randomize(network, generator)
    if config.standardize:
        _uniform(model.standardizer.mean, -1, 1, generator)
        _uniform(model.standardizer.std, 0.5, 2, generator)
    if (memory := model.memory) is not None:
        _uniform(memory.components, -0.5, 0.5, generator)
        _uniform(memory.patches, -2, 2, generator)
        for value in (memory.score_scale, memory.distance_scale, memory.shift, memory.floor):
            _uniform(value, 0.5, 2, generator)
    return model.to(dtype).eval()


@functools.lru_cache(maxsize=16)
def random_backbone(name: str, layers: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Backbone:
    """A frozen backbone; tests that share it must not change it."""
    backbone = Backbone(name, layers)
    _randomize(backbone, torch.Generator().manual_seed(0))
    return backbone.to(dtype)


def int8_model(model: SimpleNet, frames: Frames) -> SimpleNet:
    """A model like another in INT8, networks and memory included, calibrated on frames uint8 `(B, H, W, 3)`."""
    images = model.normalize(torch.from_numpy(frames))
    made = int8.int8_model(model, lambda: [images]).eval()
    kept = ("standardizer.", "pre_projection.", "discriminator.", "memory.")
    made.load_state_dict(made.state_dict() | {k: v for k, v in model.state_dict().items() if k.startswith(kept)})
    int8.round_head(made)
    if (memory := made.memory) is not None:
        assert memory.quantizer is not None
        memory.components.copy_(int8.rounded_map(made, memory.components))
        memory.quantizer.scale.copy_(step_to(memory.patches.abs().amax()))
        memory.patches.copy_(memory.quantizer(memory.patches))
    return made


def _randomize(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            _uniform(module.running_mean, -0.5, 0.5, generator)
            _uniform(module.running_var, 0.5, 2, generator)
            _uniform(module.weight, 0.5, 1.5, generator)
            _uniform(module.bias, -0.5, 0.5, generator)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            _uniform(module.bias, -0.5, 0.5, generator)


@torch.no_grad()
def _uniform(tensor: torch.Tensor, low: float, high: float, generator: torch.Generator) -> None:
    tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
