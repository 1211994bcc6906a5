"""An INT8 model: its backbone and its head, as a device computes them.

The head's first convolutions are means, whose weights INT8 holds as they are; see `HeadQuantizer` for what they read
and give. The linear map behind them, as one from the standardised embedding, has weights a scale a channel, once
training is over. A memory's coordinates are rounded, remembered patches are such coordinates. Float stay the resizes
and all behind the first activation, which is next to nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.quantization import quantized, rounded_weight
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["int8_model", "round_head", "rounded_map"]


def int8_model(source: SimpleNet, batches: Callable[[], Iterable[Tensor]]) -> SimpleNet:
    """A model like `source`, on its backbone in INT8, with new networks; `source` stays as it is.

    `batches` gives the normalised images `(B, 3, H, W)` of good parts that all steps come from, anew each time it is
    called. Raises ConfigError for a backbone without a convolution.
    """
    backbone = Backbone(source.config.backbone, source.config.layers)
    backbone.weights_source = source.backbone.weights_source
    backbone.body = quantized(source.backbone.body, batches)
    model = SimpleNet(source.config, source.input_spec, backbone).to(source.pixel_mean.device)
    assert model.head_quantizer is not None
    model.head_quantizer.calibrate(model.backbone, model.layer_shares, batches())
    return model


@torch.no_grad()
def rounded_map(model: SimpleNet, weight: Tensor) -> Tensor:
    """A map `(O, D)` of standardised rows whose weights on the steps of the embedding INT8 holds, float64."""
    assert model.head_quantizer is not None
    steps = model.head_quantizer.steps.double() / model.standardizer.std.double()
    return rounded_weight(weight.to(steps) * steps) / steps


@torch.no_grad()
def round_head(model: SimpleNet) -> None:
    """Make the linear layers and batch norms up to the first activation one map, rounded, in the last of these layers.

    The model must be in evaluation mode.
    """
    layers: list[nn.Module] = []
    for module in [*model.pre_projection.modules(), *model.discriminator.modules()]:
        if isinstance(module, nn.LeakyReLU):
            break
        if isinstance(module, nn.Linear | nn.BatchNorm1d):
            layers.append(module)
    whole = copy.deepcopy(nn.Sequential(*layers)).double()
    dim = model.config.target_embed_dim
    bias = whole(model.pixel_mean.new_zeros(1, dim, dtype=torch.float64))
    weight = (whole(torch.eye(dim).to(bias)) - bias).T
    *before, last = [module for module in layers if isinstance(module, nn.Linear)]
    for module in layers:
        _make_identity(module)
    last.weight.copy_(rounded_map(model, weight))
    has_bias = last.bias is not None
    if has_bias:
        last.bias.copy_(bias[0])
    elif before:  # the score itself has none: it may come from what the layer before adds
        before[-1].bias.copy_(torch.linalg.pinv(last.weight.double()) @ bias[0])


def _make_identity(module: nn.Module) -> None:
    if isinstance(module, nn.BatchNorm1d):
        module.reset_parameters()
        assert module.running_var is not None
        module.running_var -= module.eps
        return
    assert isinstance(module, nn.Linear)
    nn.init.eye_(module.weight)
    if module.bias is not None:
        module.bias.zero_()
