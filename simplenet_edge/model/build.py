"""A new model from a few choices, everything else from the defaults of its backbone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.architectures import normalization
from simplenet_edge.model.backbone import Backbone, load_imagenet_weights, load_weights_file
from simplenet_edge.model.defaults import DEFAULT_MEMORY, backbone_defaults
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.spec import FULL_BIT_DEPTH, InputSpec, ResizeRule, SimpleNetConfig

__all__ = ["build_simplenet"]


def build_simplenet(
    backbone: str,
    *,
    layers: tuple[str, ...] | None = None,
    weights: Path | None = None,
    random_weights: bool = False,
    size_hw: tuple[int, int] | None = None,
    resize: ResizeRule | None = None,
    resize_to: int | None = None,
    bit_depth: int = FULL_BIT_DEPTH,
    variant: Literal["edge", "paper"] = "edge",
    memory_size: int | None = None,
    seed: int = 0,
) -> SimpleNet:
    """An untrained SimpleNet on a pretrained backbone.

    The backbone's weights come from the file `weights`, with `random_weights` from `seed`, otherwise from torchvision.
    `resize` is a rule of `InputSpec`; left out, it is `center-crop` where `resize_to` is given and `stretch` otherwise.
    `bit_depth` is how many bits of 16-bit images are used.
    `variant` "edge" is this project's model: it standardises the features, takes the mean of the nine largest patch
    scores, aligns maps by receptive fields and remembers `memory_size` patches; "paper" does none of it. `center-crop`
    without `resize_to` takes 8/7 of the longer side, as the paper does. Raises ConfigError for choices that don't go
    together, WeightsError for weights that aren't there or don't fit.
    """
    if weights is not None and random_weights:
        raise ConfigError("a weights file and random weights exclude each other; choose one")
    defaults = backbone_defaults(backbone, layers)
    height, width = size_hw or (defaults.input_side, defaults.input_side)
    rule = resize or ("stretch" if resize_to is None else "center-crop")
    if rule == "center-crop" and resize_to is None:
        resize_to = round(max(height, width) * 8 / 7)
    mean, std = normalization(backbone)
    spec = InputSpec(height, width, rule, resize_to, mean, std, bit_depth)
    config = SimpleNetConfig(
        backbone,
        layers or defaults.layers,
        pretrain_embed_dim=defaults.embed_dim,
        target_embed_dim=defaults.embed_dim,
        standardize=variant == "edge",
        discriminator_hidden=defaults.hidden,
    )
    if variant == "edge":
        config = dataclasses.replace(
            config,
            score_top_k=config.patch_size**2,  # so many patches see each cell: one noisy patch alone is no defect
            alignment="receptive-field",
            memory_dim=defaults.memory_dim,
        )
    if memory_size is None:
        memory_size = DEFAULT_MEMORY if variant == "edge" else 0
    config = dataclasses.replace(config, memory_size=memory_size)
    extractor = Backbone(config.backbone, config.layers, seed=seed)
    if weights is not None:
        load_weights_file(extractor, weights)
    elif not random_weights:
        load_imagenet_weights(extractor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SimpleNet(config, spec, extractor)
